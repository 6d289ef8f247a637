"""Rotations of stores' credentials, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from simples3dms.client.transport import Transport, at
from simples3dms.kit.secret import Secret
from simples3dms.schemas import rotations
from simples3dms.schemas.stores import Store


class RotationsMixin(Transport):
    """Secrets go into a body that nothing logs, and come back in none."""

    def set_place(self, store: str, *, settings: Mapping[str, object], credential: Mapping[str, Secret | str]) -> Store:
        """Change where a store is: with the whole credential, which is probed there first."""
        body = {"settings": dict(settings), "credential": _open(credential)}
        return self.parse(Store, self._with_secret("PATCH", at("stores", store), body))

    def get_credential(self, store: str) -> rotations.StoreCredential:
        return self.get(rotations.StoreCredential, at("stores", store, "credential"))

    def start_rotation(
        self,
        store: str,
        credential: Mapping[str, Secret | str] | None = None,
        *,
        deletes_old: bool | None = None,
        grace_seconds: float | None = None,
        expires_at: datetime | None = None,
    ) -> rotations.Rotation:
        """To this credential, or to one that is made at the provider."""
        body = {
            "credential": None if credential is None else _open(credential),
            "deletes_old": deletes_old,
            "grace_seconds": grace_seconds,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        return self.parse(rotations.Rotation, self._with_secret("POST", at("stores", store, "rotation"), body))

    def get_rotation(self, store: str) -> rotations.Rotation:
        return self.get(rotations.Rotation, at("stores", store, "rotation"))

    def roll_back_rotation(self, store: str) -> rotations.Rotation:
        return self.send("POST", rotations.Rotation, at("stores", store, "rotation", "rollback"))

    def finalize_rotation(self, store: str) -> rotations.Rotation:
        return self.send("POST", rotations.Rotation, at("stores", store, "rotation", "finalize"))

    def start_own_rotation(
        self,
        tenant: str,
        store: str,
        credential: Mapping[str, Secret | str],
        *,
        grace_seconds: float | None = None,
        expires_at: datetime | None = None,
    ) -> rotations.Rotation:
        """Of a store that the tenant brought."""
        body = {
            "credential": _open(credential),
            "grace_seconds": grace_seconds,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        return self.parse(rotations.Rotation, self._with_secret("POST", _own(tenant, store), body))

    def get_own_rotation(self, tenant: str, store: str) -> rotations.Rotation:
        return self.get(rotations.Rotation, _own(tenant, store))

    def roll_back_own_rotation(self, tenant: str, store: str) -> rotations.Rotation:
        return self.send("POST", rotations.Rotation, _own(tenant, store, "rollback"))

    def finalize_own_rotation(self, tenant: str, store: str) -> rotations.Rotation:
        return self.send("POST", rotations.Rotation, _own(tenant, store, "finalize"))

    def set_rotation_schedule(
        self,
        store: str,
        *,
        every_days: float | None,
        deletes_old: bool = False,
        manager: Mapping[str, Secret | str] | None = None,
    ) -> rotations.RotationSchedule:
        body = {
            "every_days": every_days,
            "deletes_old": deletes_old,
            "manager": None if manager is None else _open(manager),
        }
        answer = self._with_secret("PUT", at("stores", store, "rotation-schedule"), body)
        return self.parse(rotations.RotationSchedule, answer)

    def _with_secret(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        return self.call(method, path, content=json.dumps(body).encode())


def _own(tenant: str, store: str, *act: str) -> str:
    return at("tenants", tenant, "own-stores", store, "rotation", *act)


def _open(credential: Mapping[str, Secret | str]) -> dict[str, str]:
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in credential.items()}
