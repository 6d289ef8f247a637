"""The embedded PostgreSQL server: one per data directory, shared by our processes, gone when the last of them is."""

from simples3dms.db.embedded.errors import EmbeddedPostgresError
from simples3dms.db.embedded.server import EmbeddedPostgres, ServerAddress

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "ServerAddress"]
