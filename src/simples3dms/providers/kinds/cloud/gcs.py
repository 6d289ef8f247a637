"""The `gcs` kind: Google Cloud Storage by its own API, with a service account's key. Experimental."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from obstore.store import GCSStore
from pydantic import AfterValidator, Field

from simples3dms.kit.secret import Secret
from simples3dms.providers.base import Location
from simples3dms.providers.errors import BadCredential
from simples3dms.providers.kinds.cloud.errors import VENDOR_ERRORS
from simples3dms.providers.kinds.cloud.provider import NO_REPEATS, CloudProvider, client_options
from simples3dms.providers.registry import BuildOptions, FormModel, Prefix, ProviderKind, SecretField, Url

_GOOGLE: Final = "https://storage.googleapis.com"
_TOKENS: Final = "https://oauth2.googleapis.com"


def _account(value: Secret) -> Secret:
    try:
        found = json.loads(value.reveal())
        complete = all(str(found[name]).strip() for name in ("client_email", "private_key"))
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise ValueError("must be a service account's key file, as JSON with client_email and private_key")
    return value


def _own_fields(key: str) -> str:
    """Only what signs: such a file may also name a server to go to, and ask that nothing be signed."""
    found = json.loads(key)
    return json.dumps({name: found.get(name) or "" for name in ("client_email", "private_key", "private_key_id")})


class GcsSettings(FormModel):
    """`endpoint` only for a server that speaks the same API."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", description="The bucket's name.")]
    prefix: Prefix = ""
    endpoint: Url | None = None


class GcsCredential(FormModel):
    """A service account's key, as Google gives it: one JSON text."""

    service_account_key: Annotated[SecretField, AfterValidator(_account)]


def _build(settings: GcsSettings, credential: GcsCredential, options: BuildOptions) -> CloudProvider:
    key = credential.service_account_key.reveal()
    if not key.strip():
        raise BadCredential("a GCS store needs a service account's key")
    config: Any = {
        "service_account_key": _own_fields(key),
        # Said even where it is the usual one, or the environment's GOOGLE_* would lead elsewhere (K7).
        "base_url": settings.endpoint or _GOOGLE,
        "skip_signature": False,
    }
    try:
        client = GCSStore(
            settings.bucket,
            client_options=client_options(options, allow_http=(settings.endpoint or "").startswith("http:")),  # type: ignore[arg-type]
            retry_config=NO_REPEATS,
            **config,
        )
    except VENDOR_ERRORS:
        raise BadCredential("the private key in the service account's key file can't be read") from None
    location = Location(f"gcs:{settings.endpoint or 'google'}", settings.bucket, settings.prefix)
    return CloudProvider("gcs", client, location)


KIND = ProviderKind(
    name="gcs",
    title="Google Cloud Storage (experimental)",
    settings_model=GcsSettings,
    credential_model=GcsCredential,
    build=_build,
    destinations=lambda settings: [settings.endpoint or _GOOGLE, _TOKENS],
)
