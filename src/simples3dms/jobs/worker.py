"""The worker: runs jobs and the watchdog until it is told to stop."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import procrastinate
import structlog

from simples3dms.bootstrap import Services
from simples3dms.errors import Unavailable
from simples3dms.jobs import watchdog
from simples3dms.jobs.running import RunningJobs
from simples3dms.jobs.tasks import register

log = structlog.get_logger(__name__)

_STALLED_SECONDS = 60.0


async def run_worker(services: Services, *, stop: asyncio.Event | None = None, name: str = "worker") -> None:
    """Work until `stop` is set (or the task is cancelled). Any number of workers may run, on any number of machines.

    A lost database connection ends a round, not the worker: it starts anew as soon as the database answers.
    """
    stop = stop or asyncio.Event()
    jobs = RunningJobs()
    watching = asyncio.create_task(_watch(services, stop, jobs))
    sealing = asyncio.create_task(_seal(services, stop))
    try:
        while not stop.is_set():
            try:
                await _run_jobs(services, stop, name, jobs)
            except (procrastinate.exceptions.ConnectorException, Unavailable) as error:
                log.warning("worker.restarts", error=type(error).__name__)
                await _wait(stop, 2.0)
    finally:
        for task in (watching, sealing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _run_jobs(services: Services, stop: asyncio.Event, name: str, jobs: RunningJobs) -> None:
    app = services.queue.new_app()
    register(app, services)
    async with app.open_async():
        running = asyncio.create_task(
            app.run_worker_async(
                name=name,
                concurrency=services.worker_concurrency,
                install_signal_handlers=False,
                fetch_job_polling_interval=2.0,
                # What runs on after that is cancelled, and puts its rows back.
                shutdown_graceful_timeout=services.worker_grace_seconds,
                delete_jobs="always",
                worker_middleware=[jobs.around],
            )
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def _watch(services: Services, stop: asyncio.Event, jobs: RunningJobs) -> None:
    while not stop.is_set():
        try:
            await watchdog.tick(services)
            await services.queue.drop_stalled(older_than_seconds=_STALLED_SECONDS)
            # With the watchdog's own pause that is less than a lease.
            await jobs.drop_lost(services.queue, after_seconds=services.blobs.lease_seconds / 3)
        except Unavailable:
            log.warning("watchdog.waits", reason="database unavailable")
        except Exception:
            log.exception("watchdog.failed")
        await _wait(stop, services.watchdog_seconds * random.uniform(0.8, 1.2))  # noqa: S311 jitter


async def _seal(services: Services, stop: asyncio.Event) -> None:
    """Number and chain what has been recorded, every moment: no job, since nothing would be left to queue anew."""
    while not stop.is_set():
        try:
            await services.audit.sealer.seal_all()
        except Unavailable:
            log.warning("sealer.waits", reason="database unavailable")
        except Exception:
            log.exception("sealer.failed")
        await _wait(stop, services.seal_seconds)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
