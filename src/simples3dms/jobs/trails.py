"""The audit's upkeep: hourly checkpoints, their copies in the tenants' stores, the end of what need not be kept."""

from __future__ import annotations

import structlog

from simples3dms.bootstrap import Services
from simples3dms.context import PLATFORM
from simples3dms.errors import Failure

log = structlog.get_logger(__name__)

_LOOK_HOURS = 1.0


async def tick(services: Services, *, limit: int) -> None:
    """One round. What fails of one chain is logged, tried again at the next round, and holds up no other."""
    for chain_id in await services.audit.list_due_checkpoints(hours=services.checkpoint_hours, limit=limit):
        try:
            await services.audit.checkpoint_due(chain_id)
        except Failure as failure:
            log.warning("checkpoint.not_made", tenant=str(chain_id), code=failure.problem_code)
    for checkpoint in await services.audit.list_uncopied(limit=limit):
        if checkpoint.tenant_id != PLATFORM:
            await services.checkpoints.plan(checkpoint.tenant_id, checkpoint.seq)
        await services.audit.note_copies(checkpoint.tenant_id, checkpoint.seq)
    await services.checkpoints.defer_due(limit=limit)
    for chain_id in await services.audit.list_to_cut(hours=_LOOK_HOURS, limit=limit):
        try:
            await services.audit.cut(chain_id)
        except Failure as failure:
            log.warning("audit.not_cut", tenant=str(chain_id), code=failure.problem_code)
