"""Named places where a test can kill, fail, slow or freeze the process; free when off.

Armed by `SIMPLES3DMS_FAILPOINTS="copy.after_put=kill"`; several are separated by `;`, and `@N` acts at the Nth
hit only (`copy.after_put=kill@3`). Actions: `kill` (SIGKILL to this process), `stop` (SIGSTOP to this process),
`raise` (FailPointError), `sleep:SECONDS`. `arm` refuses unless the environment is `test`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

#: Every step of the protocols at which a crash is tested. The tests walk this list, and check that each is hit.
FAIL_POINTS: Final[tuple[str, ...]] = (
    "upload.reserved",
    "upload.mid_stream",
    "upload.after_put",
    "upload.in_final_txn",
    "upload.committed",
    "copy.claimed",
    "copy.source_open",
    "copy.mid_stream",
    "copy.part_sent",
    "copy.after_put",
    "copy.proven",
    "copy.in_confirm_txn",
    "copy.committed",
    "cutover.proven",
    "cutover.in_txn",
    "cutover.committed",
    "finalize.checked",
    "finalize.in_txn",
    "finalize.committed",
    "rollback.in_txn",
    "rollback.committed",
    "evacuate.copied",
    "evacuate.in_retire_txn",
    "evacuate.retired",
    "evacuate.in_end_txn",
    "evacuate.ended",
    "drain.planned",
    "drain.in_note_txn",
    "drain.noted",
    "drain.started",
    "purge.in_decision_txn",
    "purge.decided",
    "purge.claimed",
    "purge.after_delete",
    "purge.in_confirm_txn",
    "purge.committed",
    "rewrap.key_known",
    "rewrap.in_start_txn",
    "rewrap.claimed",
    "rewrap.page_wrapped",
    "rewrap.in_page_txn",
    "rewrap.page_committed",
    "rewrap.finished",
    "rewrap.in_retire_txn",
    "rewrap.retired",
    "rotate.claimed",
    "rotate.intended",
    "rotate.made",
    "rotate.in_stage_txn",
    "rotate.staged",
    "rotate.probed",
    "rotate.in_switch_txn",
    "rotate.switched",
    "rotate.retiring",
    "rotate.old_disabled",
    "rotate.old_gone",
    "rotate.in_retire_txn",
    "rotate.done",
    "rotate.undoing",
    "rotate.new_gone",
    "cache.admitted",
    "cache.after_put",
    "cache.claimed",
    "lock.claimed",
    "lock.after_set",
    "lock.in_confirm_txn",
    "reconcile.claimed",
    "reconcile.compared",
    "reconcile.in_settle_txn",
    "reconcile.settled",
    "reconcile.after_delete",
    "reconcile.in_removal_txn",
    "scrub.claimed",
    "scrub.page_read",
    "scrub.in_settle_txn",
    "scrub.settled",
    "seal.in_txn",
    "seal.committed",
    "tenant_delete.closed",
    "tenant_delete.in_purge_txn",
    "tenant_delete.purged_some",
    "tenant_delete.swept",
    "tenant_delete.removed_some",
    "tenant_delete.in_final_txn",
    "tenant_delete.done",
)


class FailPointError(RuntimeError):
    """Raised by a fail-point armed with `raise`."""


@dataclass(frozen=True, slots=True)
class _Action:
    verb: str
    seconds: float
    at_hit: int | None


Interceptor = Callable[[str], Awaitable[None]]
_armed: dict[str, _Action] = {}
_interceptors: list[Interceptor] = []
_hits: Counter[str] = Counter()


def arm(spec: str, *, environment: str) -> None:
    """Arm the fail-points named in `spec`; an empty spec disarms all. Raises ValueError on anything unknown."""
    _armed.clear()
    _hits.clear()
    if not spec:
        return
    if environment != "test":
        raise ValueError("fail-points are refused unless SIMPLES3DMS_ENV=test")
    for part in spec.split(";"):
        name, _, action = part.strip().partition("=")
        if name not in FAIL_POINTS:
            raise ValueError(f"unknown fail-point {name!r}")
        _armed[name] = _parse(action)


def _parse(action: str) -> _Action:
    verb, _, hit = action.partition("@")
    verb, _, seconds = verb.partition(":")
    if verb not in {"kill", "stop", "raise", "sleep"}:
        raise ValueError(f"unknown fail-point action {action!r}")
    return _Action(verb, float(seconds or 0), int(hit) if hit else None)


def hits() -> Mapping[str, int]:
    """How often each armed fail-point was passed since it was armed."""
    return _hits


def intercept(interceptor: Interceptor | None, *, environment: str) -> None:
    """Have this process wait for `interceptor(name)` at every fail-point; None ends that. For tests of interleavings.

    Raises ValueError unless the environment is `test`.
    """
    if environment != "test":
        raise ValueError("fail-points are refused unless SIMPLES3DMS_ENV=test")
    _interceptors[:] = [] if interceptor is None else [interceptor]


async def fp(name: str) -> None:
    """Pass the fail-point `name`: nothing happens unless it is armed or intercepted."""
    for interceptor in _interceptors:
        await interceptor(name)
    if not _armed:
        return
    action = _armed.get(name)
    if action is None:
        return
    _hits[name] += 1
    if action.at_hit is not None and _hits[name] != action.at_hit:
        return
    match action.verb:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            await asyncio.sleep(action.seconds)
        case _:
            raise FailPointError(name)
