"""Signatures (Ed25519, RFC 8032): who holds the public key can check a statement without us."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """32 bytes each. `private` is only ever sealed, or used."""

    private: bytes
    public: bytes


def new_key_pair() -> KeyPair:
    key = Ed25519PrivateKey.generate()
    return KeyPair(key.private_bytes_raw(), key.public_key().public_bytes_raw())


def key_id_of(public: bytes) -> str:
    """A key's id follows from the key: the first 16 bytes of its SHA-256, in hexadecimal."""
    return hashlib.sha256(public).hexdigest()[:32]


def sign(private: bytes, message: bytes) -> bytes:
    """64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(message)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the key's owner signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key_from_pem(text: bytes) -> bytes | None:
    """The 32 bytes of an Ed25519 public key in PEM; None if it is anything else."""
    try:
        key = load_pem_public_key(text)
    except ValueError:
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None
