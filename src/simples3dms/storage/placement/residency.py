"""What a placement may begin to use. What is new is refused elsewhere; nothing is moved by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.rollout.errors import kind_not_enabled
from simples3dms.storage.stores.residency import refuse_outside


async def refuse_new(uow: UnitOfWork, grants: Sequence[Grant], closed: frozenset[str] = frozenset()) -> None:
    """Raise Conflict for the first store that the tenant of this unit of work may not begin to use."""
    assert uow.tenant_id is not None
    refuse_closed(closed, grants)
    await refuse_outside(uow, uow.tenant_id, grants)


def refuse_closed(closed: frozenset[str], grants: Iterable[Grant]) -> None:
    """Raise Conflict (`kind_not_enabled`) for the first store of a kind that is not there for the tenant."""
    for grant in grants:
        if grant.kind in closed:
            raise kind_not_enabled(grant.kind)
