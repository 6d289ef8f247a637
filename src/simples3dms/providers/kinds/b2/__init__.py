"""The `b2` kind: Backblaze B2 by its native API."""

from simples3dms.providers.kinds.b2.provider import KIND, B2Provider

__all__ = ["KIND", "B2Provider"]
