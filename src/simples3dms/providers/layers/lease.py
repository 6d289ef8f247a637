"""Lease: nothing is changed at a store under a claim that may be over."""

from __future__ import annotations

from simples3dms.kit.leases import require_lease
from simples3dms.providers.layers.base import LOCAL, Call, CallLayer


class LeaseLayer(CallLayer):
    """Raises LeaseLost before each call that would change something, if its work may have been taken over by another.

    Inside all that waits and repeats, so that it is asked right before the store is.
    """

    def begin(self, call: Call) -> None:
        if call.writes and call.operation not in LOCAL:
            require_lease()
