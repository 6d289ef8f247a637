"""A kind of store as a plug-in would bring it: memory behind a key, with faults on demand and a book of what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simples3dms.providers.errors import BadCredential, ProviderError
from simples3dms.providers.kinds.memory import MemoryProvider, MemorySettings
from simples3dms.providers.registry import BuildOptions, FormModel, NotBlank, Prefix, ProviderKind, SecretField

ENTRY_POINTS = "[simples3dms.providers]\nvault = tests.stores.plugin:KIND\n"
METADATA = "Metadata-Version: 2.1\nName: vault\nVersion: 1\n"


class VaultSettings(FormModel):
    place: NotBlank
    prefix: Prefix = ""


class VaultCredential(FormModel):
    key_id: NotBlank
    key: SecretField
    session: SecretField | None = None


@dataclass
class Book:
    """What happened, and what is to happen."""

    keys: set[str] = field(default_factory=lambda: {"right"})
    fault: type[ProviderError] | None = None
    built: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    during_check: Callable[[], None] = lambda: None


BOOK = Book()


class VaultProvider(MemoryProvider):
    kind = "vault"

    def __init__(self, settings: VaultSettings, credential: VaultCredential) -> None:
        super().__init__(MemorySettings(name=f"vault:{settings.place}", prefix=settings.prefix))
        self._key = credential.key.reveal()
        BOOK.built.append(self._key)

    async def check(self) -> None:
        BOOK.during_check()
        if BOOK.fault is not None:
            raise BOOK.fault("as told", vendor_code="AsTold")
        if self._key not in BOOK.keys:
            raise BadCredential("no such key")

    async def close(self) -> None:
        BOOK.closed.append(self._key)


def _build(settings: VaultSettings, credential: VaultCredential, _options: BuildOptions) -> VaultProvider:
    return VaultProvider(settings, credential)


KIND = ProviderKind(
    name="vault",
    title="A vault (tests only)",
    settings_model=VaultSettings,
    credential_model=VaultCredential,
    build=_build,
)
