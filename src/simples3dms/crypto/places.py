"""Where a key of the key ring is kept: in the ring itself, or by a service that wraps for us."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simples3dms.crypto.kms import KmsKey
from simples3dms.crypto.transit import TransitKey
from simples3dms.crypto.wrapping import KeyWrapper, LocalKey
from simples3dms.kit.secret import Secret


@dataclass(frozen=True, slots=True)
class ServiceAccess:
    """What this process signs with at the services that keep keys. Never in the key ring, which names places only."""

    kms_access_key_id: str | None = None
    kms_secret_access_key: Secret | None = None
    kms_session_token: Secret | None = None
    transit_token: Secret | None = None
    transit_token_file: Path | None = None
    """Read at each use: agents renew the token in it."""
    ca_file: Path | None = None


NO_ACCESS: Final = ServiceAccess()


def wrapper_of(key_id: str, given: object, access: ServiceAccess) -> KeyWrapper:
    """The key that the ring describes. ValueError, KeyError, TypeError for what is no description."""
    if isinstance(given, str):
        return LocalKey(key_id, _key_bytes(given))
    if not isinstance(given, Mapping):
        raise TypeError("a key is text or an object")
    kind, rest = given["kind"], {str(name): str(value) for name, value in given.items() if name != "kind"}
    if kind == "aws-kms":
        return _kms(key_id, access, **rest)
    if kind == "transit":
        return _transit(key_id, access, **rest)
    raise ValueError("no such kind of key")


def check_description(given: Mapping[str, Any]) -> None:
    """ValueError, KeyError, TypeError unless this describes a key that a service keeps."""
    wrapper_of("check", given, NO_ACCESS)


def _kms(key_id: str, access: ServiceAccess, *, key: str, region: str, endpoint: str | None = None) -> KmsKey:
    return KmsKey(
        key_id,
        key=key,
        region=region,
        endpoint=endpoint,
        access_key_id=access.kms_access_key_id,
        secret_access_key=access.kms_secret_access_key,
        session_token=access.kms_session_token,
        ca_file=access.ca_file,
    )


def _transit(
    key_id: str,
    access: ServiceAccess,
    *,
    key: str,
    address: str,
    mount: str = "transit",
    namespace: str | None = None,
) -> TransitKey:
    def token() -> Secret | None:
        if access.transit_token_file is not None:
            return Secret(access.transit_token_file.read_text().strip())
        return access.transit_token

    return TransitKey(
        key_id, key=key, address=address, mount=mount, namespace=namespace, token=token, ca_file=access.ca_file
    )


def _key_bytes(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != 32:
        raise ValueError("a key has 32 bytes")
    return key
