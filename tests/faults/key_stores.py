"""An installation whose two stores have keys of their own at their providers, which the providers' APIs manage."""

from __future__ import annotations

import json
import secrets
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.faults.installation import BUCKET, Installation, eventually
from tests.rotations.conftest import B2Side, IamSide, Provider

from simples3dms.schemas.rotations import Rotation

#: A short grace, in which every process has turned.
TIMES = {"credential_grace_seconds": "1", "credential_settle_seconds": "0.5"}


@dataclass
class KeyStore:
    """A store, and what its provider's operator sees."""

    installation: Installation
    name: str
    provider: Provider

    def rotation(self) -> Rotation:
        with self.installation.connect(tries=20) as client:
            return client.get_rotation(self.name)

    def works(self) -> bool:
        with self.installation.connect(tries=20) as client:
            return client.check_store(self.name).ok

    def until(self, *states: str, seconds: float = 60) -> Rotation:
        def reached() -> Rotation | None:
            assert self.works(), "one of the two credentials works at each instant"
            found = self.rotation()
            assert found.state in states or found.state not in ("failed", "needs_attention"), found
            return found if found.state in states else None

        found: Rotation = eventually(reached, seconds=seconds)
        return found


def add_key_stores(installation: Installation) -> dict[str, KeyStore]:
    """`keys-b2` and `keys-s3`, each with a prefix, a key of its own and one that manages keys."""
    sides: dict[str, Any] = {
        "b2": B2Side(installation.b2, bucket=BUCKET),
        "s3": IamSide(installation.s3, f"u-{secrets.token_hex(4)}", bucket=BUCKET),
    }
    found = {}
    with installation.connect() as client:
        for kind, side in sides.items():
            name = f"keys-{kind}"
            client.add_store(
                name, kind=kind, settings=side.settings | {"prefix": name}, credential=side.new_credential()
            )
            client.set_rotation_schedule(name, every_days=None, manager=side.manager())
            client.create_tenant(name, name)
            client.grant_store(name, name)
            client.set_placement(name, write=name)
            found[kind] = KeyStore(installation, name, side)
    return found


def run_keys(installation: Installation, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`simples3dms keys ...`, as an operator runs it."""
    return installation.run("keys", *command, **settings)


def list_keys(installation: Installation) -> list[dict[str, Any]]:
    done = run_keys(installation, "list", "--json")
    assert done.returncode == 0, done.stderr
    keys: list[dict[str, Any]] = json.loads(done.stdout)["keys"]
    return keys
