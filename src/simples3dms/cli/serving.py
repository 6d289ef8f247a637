"""The work of `serve`: it alone loads the HTTP door."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from simples3dms.api.app import create_app
from simples3dms.api.middleware import DoorOptions
from simples3dms.api.proxies import TrustedProxies
from simples3dms.api.wire import server_config
from simples3dms.bootstrap import Services, ensure_default_store
from simples3dms.cli.hosting import STOP_SIGNALS, keep_loaded, read_settings, running
from simples3dms.cli.output import console
from simples3dms.errors import Failure, Invalid
from simples3dms.identity.values import NewPassword
from simples3dms.jobs.worker import run_worker
from simples3dms.settings import Settings


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


class Server(uvicorn.Server):
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
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)


async def _serve(settings: Settings, listener: socket.socket, *, with_worker: bool, password_file: Path | None) -> None:
    async with running(settings) as services:
        services.listener.start()
        services.stores.budgets.start()
        services.throttle.start()
        made = await services.identity.ensure_first_operator()
        await _ensure_default_store(services, settings)
        config = server_config(create_app(services, _door_options(settings)))
        address, port = listener.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        server = Server(config, lambda: _welcome(url, made, password_file))
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(services, stop=stop, name="serve")) if with_worker else None
        if worker is not None:
            # A worker that dies takes the server with it, and what it died of is told: nothing goes on by half.
            worker.add_done_callback(lambda _task: setattr(server, "should_exit", True))
        keep_loaded()
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
