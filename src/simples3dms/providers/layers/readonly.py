"""Read-only: a store that is to be left as it is."""

from __future__ import annotations

from simples3dms.providers.errors import AccessDenied
from simples3dms.providers.layers.base import Call, CallLayer


class ReadOnlyLayer(CallLayer):
    """Refuses every call that would change something, before it leaves the process."""

    def begin(self, call: Call) -> None:
        if call.writes:
            raise AccessDenied("the store is set to read-only", vendor_code="read_only")
