"""The conformance suite: what every store must do, as small named behaviours that run against any live store.

They run in CI over every kind and every server we know, and against a store of your own with

    pytest --pyargs simples3dms.providers.conformance --store-config FILE

Each works below a scratch prefix of its own and removes what it made.
"""

# The modules put their behaviours on the list when they are imported, in this order.
from simples3dms.providers.conformance import writing, reading, removing, locking, inside  # noqa: F401, I001
from simples3dms.providers.conformance.harness import BEHAVIOURS, Behaviour, Outcome, run_behaviour, run_conformance

__all__ = ["BEHAVIOURS", "Behaviour", "Outcome", "run_behaviour", "run_conformance"]
