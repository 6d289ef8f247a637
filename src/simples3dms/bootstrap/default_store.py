"""The store that the environment describes."""

from __future__ import annotations

from typing import Final

from simples3dms.bootstrap.services import Services
from simples3dms.context import HOST
from simples3dms.errors import Invalid
from simples3dms.settings import Settings

#: What the environment calls the fields of each kind's forms.
_FROM_ENVIRONMENT: Final[dict[str, dict[str, str]]] = {
    "s3": {
        "endpoint": "endpoint",
        "region": "region",
        "bucket": "bucket",
        "prefix": "prefix",
        "key_id": "access_key_id",
        "key": "secret_access_key",
    },
    "b2": {
        "endpoint": "realm",
        "bucket": "bucket",
        "prefix": "prefix",
        "key_id": "application_key_id",
        "key": "application_key",
    },
    "local": {"bucket": "path", "prefix": "prefix"},
}


async def ensure_default_store(services: Services, settings: Settings) -> str | None:
    """Make sure of the store that the environment describes; what was done (`added`, `credential replaced`), if
    anything was. Raises Invalid (`settings_invalid`), and what `Stores.ensure_store` does."""
    if settings.storage_kind is None:
        return None
    given = {
        "endpoint": settings.storage_endpoint,
        "region": settings.storage_region,
        "bucket": settings.storage_bucket,
        "prefix": settings.storage_prefix,
        "key_id": settings.storage_key_id,
        "key": None if settings.storage_key is None else settings.storage_key.get_secret_value(),
    }
    names = _FROM_ENVIRONMENT[settings.storage_kind]
    foreign = [name for name, value in given.items() if value and name not in names]
    if foreign:
        variables = ", ".join(f"SIMPLES3DMS_STORAGE_{name.upper()}" for name in foreign)
        raise Invalid(f"A store of the kind {settings.storage_kind} takes no {variables}.", code="settings_invalid")
    fields = {names[name]: value for name, value in given.items() if value}
    secret = {name: fields.pop(name) for name in (names.get("key_id"), names.get("key")) if name in fields}
    return await services.stores.ensure_store(HOST, settings.storage_name, settings.storage_kind, fields, secret)
