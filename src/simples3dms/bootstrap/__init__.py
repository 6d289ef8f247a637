"""The composition root: settings become a database, a key ring, providers and services. Nothing happens at import."""

from simples3dms.bootstrap.default_store import ensure_default_store
from simples3dms.bootstrap.parts import open_keyring, service_access
from simples3dms.bootstrap.server import DatabaseServer
from simples3dms.bootstrap.services import Services, build_services, check_ready

__all__ = [
    "DatabaseServer",
    "Services",
    "build_services",
    "check_ready",
    "ensure_default_store",
    "open_keyring",
    "service_access",
]
