"""The database that a process uses: the embedded server, or one of the operator's own."""

from __future__ import annotations

from simples3dms.db.embedded import EmbeddedPostgres
from simples3dms.db.provision import Provisioned, provision
from simples3dms.settings import Settings


class DatabaseServer:
    """The database that this process uses: one of the operator's own, or the embedded server, attached or started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedPostgres | None = None

    @property
    def is_embedded(self) -> bool:
        return self._settings.database_url is None

    def start(self) -> Provisioned:
        """Make the database reachable (the embedded one is started, or attached to) and say how. Blocks."""
        settings = self._settings
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
            owner = settings.database_owner_url
            return Provisioned(owner.get_secret_value() if owner else url, url)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._embedded = EmbeddedPostgres(settings.data_dir, embedded_dir=settings.embedded_dir)
        self._embedded.start()
        return provision(self._embedded.superuser_dsn, settings.data_dir / "database-credentials.json")

    def stop(self) -> None:
        """Let go of the embedded server; it stops when the last process has. Blocks."""
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None
