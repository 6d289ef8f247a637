"""The work of `simples3dms keys`: over the services themselves, where the key ring is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict

from rich.progress import Progress

from simples3dms.bootstrap import Services
from simples3dms.cli.hosting import read_settings, running
from simples3dms.cli.output import console, messages, say, show_json
from simples3dms.context import HOST
from simples3dms.errors import Invalid, Unavailable
from simples3dms.keys.values import Rewrap

_LOOK_SECONDS = 0.5


def list_keys(*, as_json: bool) -> None:
    """Print every key of the ring and of the database."""

    async def work() -> None:
        async with running(read_settings(), check_keys=False) as services:
            keys = await services.keys.list_keys()
        if as_json:
            show_json({"keys": [asdict(key) for key in keys]})
            return
        for key in keys:
            said = ["seals what is new"] if key.is_primary else []
            said += [f"{key.sealed_count} sealed rows"] if key.sealed_count else []
            said += [] if key.in_use else ["unused"]
            said += [] if key.in_keyring else ["MISSING from the key ring"]
            console.print(f"{key.id}  {key.place}  ({', '.join(said)})", markup=False, soft_wrap=True)

    asyncio.run(work())


def add_key(key_id: str | None, described: Mapping[str, Mapping[str, str | None]], *, as_json: bool) -> None:
    """Add a fresh key, or the one that is described."""
    chosen = {kind: fields for kind, fields in described.items() if any(fields.values())}
    if len(chosen) > 1:
        raise Invalid("A key is kept by KMS or by a transit engine, not by both.", code="key_invalid")
    description: dict[str, str] | None = None
    for kind, fields in chosen.items():
        description = {"kind": kind} | {name: value for name, value in fields.items() if value}

    async def work() -> str:
        async with running(read_settings()) as services:
            return await services.keys.add(description, key_id=key_id)

    made = asyncio.run(work())
    if as_json:
        show_json({"id": made})
    else:
        say(f"Added {made}. Carry the key ring to all machines, then run: simples3dms keys rotate --to {made}")


def rotate(to: str | None, *, wait: bool, as_json: bool) -> None:
    """Change the key; with `wait`, bring the rows over and show how far it is."""

    async def work() -> Rewrap:
        async with running(read_settings()) as services:
            begun = await services.keys.rotate(HOST, to)
            return await _finish(services, begun) if wait else begun

    done = asyncio.run(work())
    if as_json:
        show_json(json.loads(json.dumps(asdict(done), default=str)))
    else:
        say(f"{done.key_id} seals what is new. Rows: {done.done_count} moved, {done.broken_count} not ({done.state}).")
    if done.state == "needs_attention":
        raise Unavailable(
            "Some rows don't open under the key that they name; the log says which. Enter those secrets anew.",
            code="rewrap_incomplete",
        )


async def _finish(services: Services, begun: Rewrap) -> Rewrap:
    """A worker may be at it: whoever has the claim works, and this one shows how far it is."""
    with Progress(console=messages, transient=True) as progress:
        bar = progress.add_task("Sealed rows", total=max(1, begun.total_count))
        while True:
            running_here = asyncio.create_task(services.keys.engine.run(begun.id))
            while not running_here.done():
                await asyncio.wait({running_here}, timeout=_LOOK_SECONDS)
                now = await services.keys.get_rewrap(begun.id)
                progress.update(bar, completed=now.done_count)
            await running_here
            now = await services.keys.get_rewrap(begun.id)
            if now.state != "running":
                return now
            await asyncio.sleep(_LOOK_SECONDS)


def retire(key_id: str) -> None:
    async def work() -> None:
        async with running(read_settings()) as services:
            await services.keys.retire(HOST, key_id)

    asyncio.run(work())
    say(f"{key_id} is retired. Old backups of the database need it still: keep a copy as long as you keep those.")
