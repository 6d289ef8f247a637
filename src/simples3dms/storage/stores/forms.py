"""What people type in to set up a store, as it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from simples3dms.kit.secret import Secret
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import FormModel, ProviderKind
from simples3dms.storage.stores import errors
from simples3dms.storage.stores.errors import explain


def checked_fields(kind: ProviderKind, credential: Mapping[str, Secret | str]) -> dict[str, str]:
    """The credential as it is sealed. With a blank key a vendor's library would sign as the host."""
    given: dict[str, str] = {}
    for name, value in credential.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or not text.strip():
            raise errors.credential_blank(name)
        given[name] = text
    return _revealed(kind.validate_credential(given))


def _revealed(form: FormModel) -> dict[str, str]:
    values = {name: getattr(form, name) for name in type(form).model_fields}
    return {
        name: value.reveal() if isinstance(value, Secret) else str(value)
        for name, value in values.items()
        if value is not None
    }


async def settle(kind: ProviderKind, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind.settle is None:
        return {}
    try:
        return await asyncio.to_thread(kind.settle, kind.validate_settings(settings))
    except ProviderError as error:
        raise explain(error, typed_in=True) from error
