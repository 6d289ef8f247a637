"""The work of the host commands: it loads the whole product, which no other command has to wait for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from psycopg.conninfo import conninfo_to_dict

from simples3dms.api.app import create_app
from simples3dms.bootstrap import Services, build_services
from simples3dms.cli.output import console, say, show_json
from simples3dms.errors import Invalid, Unavailable
from simples3dms.identity.values import NewPassword
from simples3dms.jobs.worker import run_worker
from simples3dms.revisions.schema import ensure_schema
from simples3dms.revisions.upgrade import upgrade
from simples3dms.settings import Settings
from simples3dms.telemetry.logging import configure_logging


def _settings() -> Settings:
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    return settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Services]:
    """The services, with the database up and its schema there; all let go at the end."""
    services = await asyncio.to_thread(build_services, settings)
    try:
        await asyncio.to_thread(ensure_schema, services)
        unknown = await _open(services)
        if unknown:
            raise Unavailable(
                f"Stores' credentials are sealed under keys that {settings.keyring_path} lacks: {', '.join(unknown)}. "
                "Bring back the key ring that has them.",
                code="keyring_incomplete",
            )
        yield services
    finally:
        await services.close()


async def _open(services: Services) -> list[str]:
    await services.open()
    return await services.credentials.list_unknown_keys()


def serve(host: str, port: int, *, with_worker: bool, password_file: Path | None) -> None:
    """Serve until a signal says to stop."""
    settings = _settings()
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
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


async def _serve(settings: Settings, listener: socket.socket, *, with_worker: bool, password_file: Path | None) -> None:
    async with running(settings) as services:
        made = await services.identity.ensure_first_operator()
        config = uvicorn.Config(
            create_app(services),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=20,
            timeout_keep_alive=75,
            lifespan="off",
        )
        address, port = listener.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        server = _Server(config, lambda: _welcome(url, made, password_file))
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(services, stop=stop, name="serve")) if with_worker else None
        try:
            await server.serve(sockets=[listener])
        finally:
            stop.set()
            if worker is not None:
                await worker


def _welcome(url: str, made: NewPassword | None, password_file: Path | None) -> None:
    console.print(f"SimpleS3DMS is ready at {url}  (health: {url}/readyz, API: {url}/api/v1/openapi.json)")
    if made is None:
        console.print(f"Sign in with: simples3dms login {url}")
    elif password_file is not None:
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"email": made.email, "password": made.password.reveal()}, file)
    else:
        console.print("The first administrator was made. The password is shown this once:", style="bold")
        console.print(f"  e-mail:   {made.email}\n  password: {made.password.reveal()}", soft_wrap=True)
        console.print(f"Sign in with: simples3dms login {url} --email {made.email}")
    sys.stdout.flush()


def work(name: str) -> None:
    """Run a worker until a signal says to stop."""
    asyncio.run(_work(_settings(), name))


async def _work(settings: Settings, name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as services:
        say(f"Worker {name} is ready.")
        await run_worker(services, stop=stop, name=name)


def upgrade_database() -> None:
    """Bring the schema of the operator's own PostgreSQL up to date, as its owner."""
    settings = _settings()
    if settings.database_url is None or settings.database_owner_url is None:
        raise Invalid(
            "Set SIMPLES3DMS_DATABASE_URL (the application's login) and SIMPLES3DMS_DATABASE_OWNER_URL (the owner); "
            "the embedded server needs no upgrade by hand.",
            code="database_url_missing",
        )
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
    settings = _settings()

    async def check() -> bool:
        async with running(settings) as services:
            report = await services.upkeep.fsck(read_data=read_data)
        findings = [
            {"kind": f.kind, "tenant_id": str(f.tenant_id), "target": f.target, "message": f.message}
            for f in report.findings
        ]
        if as_json:
            show_json({"clean": report.clean, "findings": findings, "counts": dict(report.counts)})
        else:
            for finding in findings:
                console.print(f"{finding['kind']}: {finding['target']} ({finding['message']})", soft_wrap=True)
            counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(report.counts.items()))
            say(f"{'Clean' if report.clean else 'Not clean'}: {counts}.")
        return report.clean

    return asyncio.run(check())
