"""The `local` kind: a directory of this machine as a store, durable by our own careful writer."""

from simples3dms.providers.kinds.local.provider import KIND, LocalProvider, LocalSettings

__all__ = ["KIND", "LocalProvider", "LocalSettings"]
