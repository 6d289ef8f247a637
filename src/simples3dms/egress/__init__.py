"""The egress guard: the only way out for connections to addresses that a tenant chose (facts: K6, K7, S-34 to S-38)."""

from simples3dms.egress.guard import EgressGuard
from simples3dms.egress.policy import Destination, EgressPolicy

__all__ = ["Destination", "EgressGuard", "EgressPolicy"]
