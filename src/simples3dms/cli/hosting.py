"""The work of the host commands but `serve`: it loads the whole product, which no other command has to wait for."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from simples3dms.bootstrap import Services, build_services
from simples3dms.cli.output import console, say, show_json
from simples3dms.context import HOST, PLATFORM
from simples3dms.errors import Invalid, Unavailable
from simples3dms.identity.invitations.values import HandOver
from simples3dms.jobs.worker import run_worker
from simples3dms.revisions.schema import ensure_schema, find_revision, is_newer
from simples3dms.settings import Settings
from simples3dms.storage.upkeep.values import Finding
from simples3dms.telemetry.logging import configure_logging

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def read_settings() -> Settings:
    """The settings, and logging as they say. Raises Invalid (`settings_invalid`) with each variable that is wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = [
            f"SIMPLES3DMS_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise Invalid("\n".join(wrong), code="settings_invalid") from None
    configure_logging(settings.log_level, settings.log_format)
    return settings


def keep_loaded() -> None:
    """Take what is loaded by now for what stays: the garbage collector looked through it again and again, which took a
    request as long as all its own work."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def running(settings: Settings, *, check_keys: bool = True) -> AsyncIterator[Services]:
    """The services, with the database up and its schema there; all let go at the end.

    `check_keys`: not with a key ring that can't open everything; `simples3dms keys` itself has to.
    """
    services = await asyncio.to_thread(build_services, settings)
    try:
        await asyncio.to_thread(_reach, services.urls.app_url, "SIMPLES3DMS_DATABASE_URL")
        await asyncio.to_thread(ensure_schema, services)
        await services.open()
        if check_keys:
            await services.keys.check_start()
        yield services
    finally:
        await services.close()


def _reach(url: str, variable: str) -> None:
    """Tell a database that is not there, or not like this, from all that may go wrong later. Blocks."""
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.Error as error:
        reason = str(error).partition("\n")[0]
        raise Unavailable(
            f"The database can't be reached: {reason}. Does it run, and is {variable} right?",
            code="database_unavailable",
        ) from error


def work(name: str) -> None:
    """Run a worker until a signal says to stop."""
    with asyncio.Runner(loop_factory=_quick_loop()) as runner:
        runner.run(_work(read_settings(), name))


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """A loop that takes a fifth less of the processor's time for the same copies, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _work(settings: Settings, name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as services:
        services.listener.start()
        services.stores.budgets.start()
        services.throttle.start()
        keep_loaded()
        say(f"Worker {name} is ready.")
        await run_worker(services, stop=stop, name=name)


def upgrade_database() -> None:
    """Bring the schema of the operator's own PostgreSQL up to date, as its owner."""
    settings = read_settings()
    if settings.database_url is None or settings.database_owner_url is None:
        raise Invalid(
            "Set SIMPLES3DMS_DATABASE_URL (the application's login) and SIMPLES3DMS_DATABASE_OWNER_URL (the owner); "
            "the embedded server needs no upgrade by hand.",
            code="database_url_missing",
        )
    owner_url = settings.database_owner_url.get_secret_value()
    _reach(owner_url, "SIMPLES3DMS_DATABASE_OWNER_URL")
    found = find_revision(owner_url)
    if is_newer(found):
        say(f"The schema is at revision {found}, of a later version: nothing to do.")
        return
    # Alembic and SQLAlchemy, for this command alone.
    from simples3dms.revisions.upgrade import upgrade

    revision = upgrade(
        owner_url,
        login_role=_user_of(settings.database_url.get_secret_value()),
    )
    say(f"The schema is at revision {revision}.")


def declare_restored(reason: str) -> None:
    """Hold removals back."""
    settings = read_settings()

    async def declare() -> None:
        async with running(settings) as services:
            await services.restores.declare(HOST, reason)

    asyncio.run(declare())
    say("Nothing is removed from stores any more, until `simples3dms upkeep confirm-restore`.")


def recount() -> None:
    """Put the counters right."""
    settings = read_settings()

    async def count() -> int:
        async with running(settings) as services:
            return await services.counters.recount()

    wrong = asyncio.run(count())
    say(f"{wrong} numbers were wrong, and are right now." if wrong else "All numbers were right.")


def _user_of(url: str) -> str:
    user = conninfo_to_dict(url).get("user")
    if not user:
        raise Invalid("SIMPLES3DMS_DATABASE_URL names no user.", code="database_url_invalid")
    return str(user)


def fsck(*, read_data: bool, share: float = 1.0, tenant: str | None = None, as_json: bool) -> bool:
    """Check everything, or one tenant, print what was found; whether all is well."""
    settings = read_settings()

    async def check() -> bool:
        async with running(settings) as services:
            tenant_id = None if tenant is None else (await services.tenants.get_tenant(tenant)).id
            report = await services.upkeep.fsck(read_data=read_data, share=share, tenant_id=tenant_id)
            for row in await services.keys.list_broken() if tenant is None else ():
                report.findings.append(Finding("sealed_row_broken", PLATFORM, f"{row.table} {row.row}", row.code))
        findings = [
            {"kind": f.kind, "tenant_id": str(f.tenant_id), "target": f.target, "message": f.message}
            for f in report.findings
        ]
        if as_json:
            show_json({"clean": report.clean, "findings": findings, "counts": dict(report.counts)})
        else:
            for finding in findings:
                line = f"{finding['kind']}: {finding['target']} ({finding['message']})"
                console.print(line, soft_wrap=True, markup=False)
            counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(report.counts.items()))
            say(f"{'Clean' if report.clean else 'Not clean'}: {counts}.")
        return report.clean

    return asyncio.run(check())


def recover(email: str, *, remove_factors: bool, as_json: bool) -> None:
    """Make a reset of a user's password, as whoever holds this machine."""
    made = asyncio.run(_recover(read_settings(), email, remove_factors=remove_factors))
    link = made.link.reveal() if made.link is not None else None
    if as_json:
        show_json({"token": made.token.reveal(), "link": link, "expires_at": made.expires_at.isoformat()})
        return
    say("Give this to `simples3dms account use-reset`; it is shown this once:")
    console.print(link or made.token.reveal(), soft_wrap=True, markup=False)


async def _recover(settings: Settings, email: str, *, remove_factors: bool) -> HandOver:
    async with running(settings) as services:
        user = await services.identity.get_user(email)
        if remove_factors:
            await services.factors.remove_all(HOST, user.id)
        return await services.resets.create(HOST, user.id)
