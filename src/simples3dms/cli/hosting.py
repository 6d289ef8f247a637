"""The work of the host commands: it loads the whole product, which no other command has to wait for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import uvicorn
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from simples3dms.api.app import create_app
from simples3dms.api.middleware import DoorOptions
from simples3dms.api.proxies import TrustedProxies
from simples3dms.api.wire import server_config
from simples3dms.bootstrap import Services, build_services, ensure_default_store
from simples3dms.cli.output import console, say, show_json
from simples3dms.context import HOST, PLATFORM
from simples3dms.errors import Failure, Invalid, Unavailable
from simples3dms.identity.invitations.values import HandOver
from simples3dms.identity.values import NewPassword
from simples3dms.jobs.worker import run_worker
from simples3dms.revisions.schema import ensure_schema
from simples3dms.revisions.upgrade import upgrade
from simples3dms.settings import Settings
from simples3dms.storage.upkeep.values import Finding
from simples3dms.telemetry.logging import configure_logging

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


def serve(host: str, port: int, *, with_worker: bool, password_file: Path | None) -> None:
    """Serve until a signal says to stop."""
    settings = read_settings()
    listener = _listen(host, port)
    asyncio.run(_serve(settings, listener, with_worker=with_worker, password_file=password_file))


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything is started, so that a busy port is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Invalid(
            f"Can't listen on {host} port {port} ({error.strerror}): choose another with --port.", code="port_in_use"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Says when it is up, and ends without taking the process with it."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but the signal is not raised again at the end: worker and database are let go first."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)


async def _serve(settings: Settings, listener: socket.socket, *, with_worker: bool, password_file: Path | None) -> None:
    async with running(settings) as services:
        services.listener.start()
        made = await services.identity.ensure_first_operator()
        await _ensure_default_store(services, settings)
        config = server_config(create_app(services, _door_options(settings)))
        address, port = listener.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        server = _Server(config, lambda: _welcome(url, made, password_file))
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(services, stop=stop, name="serve")) if with_worker else None
        if worker is not None:
            # A worker that dies takes the server with it, and what it died of is told: nothing goes on by half.
            worker.add_done_callback(lambda _task: setattr(server, "should_exit", True))
        try:
            await server.serve(sockets=[listener])
        finally:
            stop.set()
            if worker is not None:
                await worker


def _door_options(settings: Settings) -> DoorOptions:
    try:
        proxies = TrustedProxies.parse(settings.trusted_proxies)
    except ValueError as error:
        raise Invalid(f"SIMPLES3DMS_TRUSTED_PROXIES: {error}.", code="settings_invalid") from None
    return DoorOptions(proxies, settings.most_requests, idle_seconds=settings.body_idle_seconds)


async def _ensure_default_store(services: Services, settings: Settings) -> None:
    """What is wrong with the variables stops the start; a store that does not answer today does not."""
    try:
        done = await ensure_default_store(services, settings)
    except Failure as error:
        if error.problem_code in ("settings_invalid", "store_settings_invalid", "credential_invalid", "store_differs"):
            raise
        console.print(f"The store {settings.storage_name!r} of the environment was not added: {error.message}")
        return
    if done is not None:
        console.print(f"The store {settings.storage_name!r} of the environment: {done}.")


def _welcome(url: str, made: NewPassword | None, password_file: Path | None) -> None:
    console.print(
        f"SimpleS3DMS is ready at {url}  (health: {url}/readyz, API: {url}/api/v1/openapi.json)", soft_wrap=True
    )
    if made is None:
        console.print(f"Sign in with: simples3dms login {url}")
    elif password_file is not None:
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"email": made.email, "password": made.password.reveal()}, file)
    else:
        console.print("The first administrator was made. The password is shown this once:", style="bold")
        console.print(f"  e-mail:   {made.email}\n  password: {made.password.reveal()}", soft_wrap=True)
        console.print(f"Sign in with: simples3dms login {url} --email {made.email}", soft_wrap=True)
    sys.stdout.flush()


def work(name: str) -> None:
    """Run a worker until a signal says to stop."""
    asyncio.run(_work(read_settings(), name))


async def _work(settings: Settings, name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as services:
        services.listener.start()
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
    _reach(settings.database_owner_url.get_secret_value(), "SIMPLES3DMS_DATABASE_OWNER_URL")
    revision = upgrade(
        settings.database_owner_url.get_secret_value(),
        login_role=_user_of(settings.database_url.get_secret_value()),
    )
    say(f"The schema is at revision {revision}.")


def _user_of(url: str) -> str:
    user = conninfo_to_dict(url).get("user")
    if not user:
        raise Invalid("SIMPLES3DMS_DATABASE_URL names no user.", code="database_url_invalid")
    return str(user)


def fsck(*, read_data: bool, as_json: bool) -> bool:
    """Check everything, print what was found; whether all is well."""
    settings = read_settings()

    async def check() -> bool:
        async with running(settings) as services:
            report = await services.upkeep.fsck(read_data=read_data)
            for row in await services.keys.list_broken():
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
