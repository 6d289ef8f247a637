"""Passkeys (WebAuthn): options for browsers, and whether what an authenticator answers is true."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Who asks: the host and the origin that people see in their browser."""

    host: str
    origin: str

    @classmethod
    def of(cls, public_url: str) -> RelyingParty:
        parts = urlsplit(public_url)
        return cls(parts.hostname or "", f"{parts.scheme}://{parts.netloc}")


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """What is kept of a passkey: nothing of it is secret."""

    credential_id: bytes
    public_key: bytes
    sign_count: int


def registration_options(
    party: RelyingParty, challenge: bytes, *, user_id: bytes, user_name: str, existing: Sequence[bytes]
) -> dict[str, Any]:
    """For `navigator.credentials.create`."""
    options = webauthn.generate_registration_options(
        rp_id=party.host,
        rp_name="SimpleS3DMS",
        user_id=user_id,
        user_name=user_name,
        challenge=challenge,
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in existing],
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.DISCOURAGED, user_verification=UserVerificationRequirement.PREFERRED
        ),
    )
    found: dict[str, Any] = json.loads(webauthn.options_to_json(options))
    return found


def authentication_options(party: RelyingParty, challenge: bytes, *, existing: Sequence[bytes]) -> dict[str, Any]:
    """For `navigator.credentials.get`."""
    options = webauthn.generate_authentication_options(
        rp_id=party.host,
        challenge=challenge,
        allow_credentials=[PublicKeyCredentialDescriptor(id=one) for one in existing],
    )
    found: dict[str, Any] = json.loads(webauthn.options_to_json(options))
    return found


def check_registration(party: RelyingParty, challenge: bytes, credential: Mapping[str, Any]) -> NewPasskey | None:
    """The new passkey; None unless it was made for this challenge, host and origin."""
    try:
        found = webauthn.verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return NewPasskey(found.credential_id, found.credential_public_key, found.sign_count)


def credential_id_of(credential: Mapping[str, Any]) -> bytes | None:
    """Which passkey an answer claims to be of."""
    try:
        return webauthn.base64url_to_bytes(str(credential["id"]))
    except (KeyError, ValueError):
        return None


def check_authentication(
    party: RelyingParty, challenge: bytes, credential: Mapping[str, Any], *, public_key: bytes, sign_count: int
) -> int | None:
    """The passkey's new count of signatures; None unless it signed this challenge for this host and origin, and its
    count rose (one that fell, or stood, is of a copy)."""
    try:
        found = webauthn.verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            credential_public_key=public_key,
            credential_current_sign_count=sign_count,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return found.new_sign_count
