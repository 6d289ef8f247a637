"""Passwords: argon2id off the event loop, few at a time, and the same work whether the user is known or not."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from simples3dms.kit.secret import Secret

#: Each hash takes 64 MiB while it runs (RFC 9106, section 4: the second recommended setting).
_AT_ONCE: Final = 4
#: Letters and digits that are not mistaken for one another.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"


#: What stands in place of a hash where there is no password: no hash of any.
NO_PASSWORD: Final = "!"  # noqa: S105


class Passwords:
    """Hashes and verifies. One for a process: it bounds the memory that log-ins can take together."""

    def __init__(self) -> None:
        self._hasher = PasswordHash((Argon2Hasher(time_cost=3, memory_cost=65_536, parallelism=4),))
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._decoy: str | None = None

    async def hash(self, password: Secret) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password.reveal())

    async def verify(self, password: Secret, hashed: str | None) -> bool:
        """Whether the password is the hash's. With None (or NO_PASSWORD) the same work is done for nothing."""
        if self._decoy is None:  # Made at anybody's first log-in, so that its cost tells nothing.
            self._decoy = await self.hash(Secret(secrets.token_urlsafe(24)))
        known = None if hashed == NO_PASSWORD else hashed
        async with self._slots:
            matches = await asyncio.to_thread(self._verify, password.reveal(), known or self._decoy)
        return matches and known is not None

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(password, hashed)
        except (PwdlibError, UnicodeError):
            return False


def new_password() -> Secret:
    """A password that can be typed and not guessed: 118 random bits in four groups."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(6)) for _ in range(4))
    return Secret("-".join(groups))
