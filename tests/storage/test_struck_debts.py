"""A copy that is owed no more is not made, though a worker has taken it on already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.storage.test_filtered_moves import assert_parted, begun, filled, place, put
from tests.support import Place, quiet, working

from simples3dms.context import HOST
from simples3dms.storage.transfers.engine import CopyEngine

pytestmark = pytest.mark.anyio
__all__ = ["place"]


async def test_a_copy_that_was_struck_as_a_worker_was_about_to_make_it_is_not_made(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owed to the source while there was a way back; the end of that comes as the worker has taken it on."""
    documents = await filled(place, 3)
    m, t, go, copy = place.services.migrations, place.tenant_id, asyncio.Event(), CopyEngine.copy
    async with working(place.services):
        planned = await begun(place)
        await place.until(planned.id, "ready")
        await m.cut_over(HOST, t, planned.id)
        await quiet(place)
    documents[await put(place, b"late", "image/png")] = (b"late", "image/png")
    async with place.services.database.tenant(t) as uow:
        (owed,) = await uow.scalars("SELECT id FROM transfers WHERE state = 'pending'")

    async def waits(*args: Any, **named: Any) -> Any:
        monkeypatch.undo()
        await go.wait()
        return await copy(*args, **named)

    monkeypatch.setattr(CopyEngine, "copy", waits)
    paying = asyncio.create_task(place.services.transfers.run(t, owed))
    while CopyEngine.copy is waits:
        await asyncio.sleep(0.01)
    async with working(place.services):
        await m.finalize(HOST, t, planned.id)
        await place.until(planned.id, "done")
        go.set()
        await paying
        await quiet(place)
    await assert_parted(place, documents)
