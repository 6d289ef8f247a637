"""What a process refuses, or forgets, before it begins."""

from __future__ import annotations

import base64
import json
import os

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from simples3dms.crypto.examples import is_example
from simples3dms.errors import Invalid
from simples3dms.settings import Settings


def refuse_examples(settings: Settings) -> None:
    """Raise Invalid (`secret_is_example`) for a secret that everybody knows; tests may use what they like."""
    if settings.env == "test":
        return
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and any(map(is_example, _secrets_in(value.get_secret_value()))):
            raise Invalid(
                f"SIMPLES3DMS_{name.upper()} holds a secret out of an example: anybody may know it. Make one up, "
                "such as with `openssl rand -base64 32`.",
                code="secret_is_example",
            )


def _secrets_in(value: str) -> list[str]:
    """The password of a database's address, if it has one; the keys of a key ring; of anything else, all of it."""
    if value.lstrip().startswith("{"):
        try:
            keys = json.loads(value)["keys"].values()
            return [base64.b64decode(key).decode("latin-1") for key in keys if isinstance(key, str)]
        except (ValueError, KeyError, AttributeError, TypeError):
            return []  # whoever reads it says what is wrong with it
    if "://" not in value and "=" not in value:
        return [value]
    try:
        password = conninfo_to_dict(value).get("password")
    except psycopg.ProgrammingError:
        return [value]
    return [] if password is None else [str(password)]


def refuse_host_identity() -> None:
    """A store signs with its own credential only: what the host's environment offers to SDKs is taken out of reach."""
    hosts_own = ("AWS_", "AZURE_", "GOOGLE_", "B2_APPLICATION_KEY")
    for name in [name for name in os.environ if name.startswith(hosts_own)]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
