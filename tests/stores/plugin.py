"""A kind of store as a plug-in would bring it: memory behind a key, with faults on demand and a book of what it did."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from simples3dms.providers.errors import BadCredential, ProviderError
from simples3dms.providers.kinds.memory import MemoryProvider, MemorySettings
from simples3dms.providers.registry import BuildOptions, FormModel, NotBlank, Prefix, ProviderKind, SecretField

ENTRY_POINTS = "[simples3dms.providers]\nvault = tests.stores.plugin:KIND\nhosted = tests.stores.plugin:HOSTED\n"
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
    proxies: list[str | None] = field(default_factory=list)
    street: str = field(default_factory=lambda: secrets.token_hex(4))
    """Where the hosted vaults of one test are: memory is shared by the process."""
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


class HostedSettings(FormModel):
    """Two endpoints with one bucket are one place, as if the one were an alias of the other."""

    endpoint: str = "http://127.0.0.1:9"
    region: str = "here"
    bucket: NotBlank
    prefix: Prefix = ""


def _build_hosted(settings: HostedSettings, credential: VaultCredential, options: BuildOptions) -> VaultProvider:
    BOOK.proxies.append(options.proxy_url)
    return VaultProvider(VaultSettings(place=f"{BOOK.street}:{settings.bucket}", prefix=settings.prefix), credential)


#: A kind that tenants may bring: it says where it goes. It goes nowhere: only what it says is looked at.
HOSTED = ProviderKind(
    name="hosted",
    title="A vault at a host (tests only)",
    settings_model=HostedSettings,
    credential_model=VaultCredential,
    build=_build_hosted,
    destinations=lambda settings: [settings.endpoint],
)
