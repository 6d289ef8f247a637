"""Documents in a store that locks: a shelf in memory, whose locks a test can look at and set as its owner would."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tests.support import Place, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.holds.values import RetentionMode
from simples3dms.documents.values import ReplicaView
from simples3dms.kit.ids import new_id
from simples3dms.providers.base import ObjectLock
from simples3dms.providers.kinds import memory

#: Of a shelf that `locking_place` made.
_LONG_NAME = len("a-") + 32


async def locking_place(services: Services) -> Place:
    """A tenant whose first store locks what is kept, as hard as can be."""
    mark = new_id().hex
    settings = {"name": f"a-{mark}", "object_lock": "compliance"}
    return await make_place(services, settings=(settings, {"name": f"b-{mark}"}))


async def view(place: Place, document_id: UUID) -> ReplicaView:
    (replica,) = await place.services.documents.list_replicas(place.tenant_id, document_id)
    return replica


async def hold(place: Place, document_id: UUID) -> UUID:
    made = await place.services.holds.place_hold(HOST, place.tenant_id, document_id, name="one", reason="asked for")
    return made.id


async def release(place: Place, document_id: UUID, hold_id: UUID) -> None:
    await place.services.holds.release_hold(HOST, place.tenant_id, document_id, hold_id, reason="settled")


def locks(place: Place) -> dict[str, ObjectLock]:
    """What the store keeps, by version: the newest of that name, as other tests of this process had theirs."""
    name = next(name for name in reversed(memory._shelves) if name.startswith("a-") and len(name) == _LONG_NAME)
    return memory._shelves[name].locks


async def retain(place: Place, document_id: UUID, until: datetime, mode: str = "governance") -> None:
    await place.services.holds.set_retention(HOST, place.tenant_id, document_id, until=until, mode=RetentionMode(mode))


async def lift(place: Place, document_id: UUID) -> None:
    await place.services.holds.lift_retention(HOST, place.tenant_id, document_id, until=None, reason="a mistake")
