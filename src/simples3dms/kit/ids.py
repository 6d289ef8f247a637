"""Ids: UUIDv7, made by us, so that a row's id is known before the row is."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562): unique across machines, and sorted roughly by the time it was made."""
    return uuid_utils.compat.uuid7()
