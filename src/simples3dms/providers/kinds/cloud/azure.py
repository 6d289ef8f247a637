"""The `azure` kind: Azure Blob Storage with an account key. Experimental."""

from __future__ import annotations

from typing import Annotated, Any

from obstore.store import AzureStore
from pydantic import Field

from simples3dms.providers.base import Location
from simples3dms.providers.errors import BadCredential
from simples3dms.providers.kinds.cloud.provider import NO_REPEATS, CloudProvider, client_options
from simples3dms.providers.registry import BuildOptions, FormModel, Prefix, ProviderKind, SecretField


class AzureSettings(FormModel):
    """`endpoint` only for a server that speaks the same API: with the account in its path, as Azurite has it."""

    container: Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9]){2,62}$", description="The container's name.")]
    prefix: Prefix = ""
    endpoint: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:-]+(/[a-z0-9]+)?$")] | None = None


class AzureCredential(FormModel):
    """A storage account and one of its keys."""

    account_name: Annotated[str, Field(pattern=r"^[a-z0-9]{3,24}$")]
    account_key: SecretField


def _build(settings: AzureSettings, credential: AzureCredential, options: BuildOptions) -> CloudProvider:
    key = credential.account_key.reveal()
    if not key.strip() or not credential.account_name.strip():
        raise BadCredential("an Azure store needs an account name and its key")
    # All that the environment's AZURE_* could complete or replace is said, and the key comes by a provider of
    # credentials, before which nothing else counts: a token of the host's own would sign instead (K7).
    config: Any = {
        "account_name": credential.account_name,
        "endpoint": settings.endpoint or f"https://{credential.account_name}.blob.core.windows.net",
        **dict.fromkeys(("use_emulator", "use_fabric_endpoint", "use_azure_cli", "skip_signature"), False),
    }
    given: Any = {"access_key": key, "expires_at": None}
    client = AzureStore(
        settings.container,
        credential_provider=lambda: given,
        client_options=client_options(options, allow_http=(settings.endpoint or "").startswith("http:")),  # type: ignore[arg-type]
        retry_config=NO_REPEATS,
        **config,
    )
    location = Location(f"azure:{credential.account_name}", settings.container, settings.prefix)
    return CloudProvider("azure", client, location)


def _origin(url: str) -> str:
    return "/".join(url.split("/")[:3])


KIND = ProviderKind(
    name="azure",
    title="Azure Blob Storage (experimental)",
    settings_model=AzureSettings,
    credential_model=AzureCredential,
    build=_build,
    destinations=lambda settings: [_origin(settings.endpoint or "https://*.blob.core.windows.net")],
)
