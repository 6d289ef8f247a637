"""People and programs: sessions, passwords, services."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from uuid import UUID

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.kit.secret import Secret
from simples3dms.schemas import identity, services, sessions
from simples3dms.schemas.base import Page

_PAGE = 200


def _services(tenant: str | None, *parts: object) -> str:
    """The path of a tenant's services, or of the platform's (None)."""
    return at("services", *parts) if tenant is None else at("tenants", tenant, "services", *parts)


class PeopleMixin(Transport):
    """What a client asks of who may come in, and how."""

    def get_caller(self) -> sessions.Caller:
        """Who the server takes this client for."""
        return self.get(sessions.Caller, at("session"))

    def list_sessions(self) -> list[sessions.Session]:
        return self.list_all(sessions.Session, at("sessions"))

    def end_session(self, session_id: UUID) -> None:
        self.call("DELETE", at("sessions", session_id))

    def end_sessions(self) -> int:
        return self.parse(sessions.Ended, self.call("DELETE", at("sessions"))).count

    def change_password(self, password: Secret, new_password: Secret) -> None:
        """All tokens end, this client's own among them."""
        body = {"password": password.reveal(), "new_password": new_password.reveal()}
        self.call("PUT", at("password"), content=json.dumps(body).encode())

    def disable_user(self, user_id: UUID) -> identity.User:
        return self.send("POST", identity.User, at("users", user_id, "disable"))

    def enable_user(self, user_id: UUID) -> identity.User:
        return self.send("POST", identity.User, at("users", user_id, "enable"))

    # services: of a tenant, or of the platform where `tenant` is None

    def create_service(self, tenant: str | None, name: str, role: str | None) -> services.Service:
        if tenant is None:
            body = services.CreatePlatformService.model_validate({"name": name, "platform_role": role})
            return self.send("POST", services.Service, _services(None), body)
        given = services.CreateService.model_validate({"name": name, "role": role})
        return self.send("POST", services.Service, _services(tenant), given)

    def iter_services(self, tenant: str | None) -> Iterator[services.Service]:
        path = _services(tenant)
        return iter_pages(lambda after: self.get(Page[services.Service], path, after=after, limit=_PAGE))

    def disable_service(self, tenant: str | None, service_id: UUID) -> services.Service:
        return self.send("POST", services.Service, _services(tenant, service_id, "disable"))

    def enable_service(self, tenant: str | None, service_id: UUID) -> services.Service:
        return self.send("POST", services.Service, _services(tenant, service_id, "enable"))

    def create_service_token(
        self,
        tenant: str | None,
        service_id: UUID,
        name: str,
        *,
        expires_in_days: float | None = None,
        scopes: Sequence[str] | None = None,
    ) -> identity.NewToken:
        body = services.CreateServiceToken(
            name=name, expires_in_days=expires_in_days, scopes=list(scopes) if scopes is not None else None
        )
        return self.send("POST", identity.NewToken, _services(tenant, service_id, "tokens"), body)

    def list_service_tokens(self, tenant: str, service_id: UUID) -> list[identity.Token]:
        return self.list_all(identity.Token, _services(tenant, service_id, "tokens"))

    def revoke_service_token(self, tenant: str, service_id: UUID, token_id: UUID) -> None:
        self.call("DELETE", _services(tenant, service_id, "tokens", token_id))
