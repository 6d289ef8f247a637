"""People and programs: sessions, passwords, services."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.kit.secret import Secret
from simples3dms.schemas import factors, federation, identity, invitations, letters, services, sessions
from simples3dms.schemas.base import Page

_PAGE = 200


def _services(tenant: str | None, *parts: object) -> str:
    """The path of a tenant's services, or of the platform's (None)."""
    return at("services", *parts) if tenant is None else at("tenants", tenant, "services", *parts)


def _providers(tenant: str | None, *parts: object) -> str:
    """The path of a tenant's identity providers, or of the platform's (None)."""
    base = () if tenant is None else ("tenants", tenant)
    return at(*base, "identity-providers", *parts)


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

    def set_platform_role(self, user_id: UUID, role: str | None) -> identity.User:
        body = identity.SetPlatformRole.model_validate({"platform_role": role})
        return self.send("PUT", identity.User, at("users", user_id, "platform-role"), body)

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

    # invitations and resets

    def create_invitation(self, tenant: str, email: str, role: str) -> invitations.NewInvitation:
        body = invitations.Invite.model_validate({"email": email, "role": role})
        return self.send("POST", invitations.NewInvitation, at("tenants", tenant, "invitations"), body)

    def iter_invitations(self, tenant: str) -> Iterator[invitations.Invitation]:
        path = at("tenants", tenant, "invitations")
        return iter_pages(lambda after: self.get(Page[invitations.Invitation], path, after=after, limit=_PAGE))

    def revoke_invitation(self, tenant: str, invitation_id: UUID) -> None:
        self.call("DELETE", at("tenants", tenant, "invitations", invitation_id))

    def accept_invitation(self, token: Secret, password: Secret) -> str:
        """Make the account that the invitation is for; its e-mail address. No token is needed to ask."""
        body = {"token": token.reveal(), "password": password.reveal()}
        return self.parse(invitations.Accepted, self.post_secret(at("invitations", "accept"), body)).email

    def join_tenant(self, token: Secret) -> UUID:
        """Take the place as who this client is; the tenant."""
        answer = self.post_secret(at("invitations", "join"), {"token": token.reveal()})
        return self.parse(invitations.Joined, answer).tenant_id

    def request_reset(self, email: str) -> None:
        self.call("POST", at("password-resets"), body=invitations.RequestReset(email=email))

    def use_reset(self, token: Secret, password: Secret) -> None:
        self.post_secret(at("password-resets", "use"), {"token": token.reveal(), "password": password.reveal()})

    def create_reset(self, user_id: UUID) -> invitations.HandOver:
        return self.send("POST", invitations.HandOver, at("users", user_id, "password-reset"))

    def iter_letters(self) -> Iterator[letters.Letter]:
        """Those that could not be sent."""
        return iter_pages(lambda after: self.get(Page[letters.Letter], at("letters"), after=after, limit=_PAGE))

    def retry_letter(self, letter_id: UUID) -> letters.Letter:
        return self.send("POST", letters.Letter, at("letters", letter_id, "retry"))

    def drop_letter(self, letter_id: UUID) -> None:
        self.call("DELETE", at("letters", letter_id))

    # second factors of one's own

    def list_factors(self) -> factors.Factors:
        return self.get(factors.Factors, at("account", "factors"))

    def begin_totp(self, password: Secret) -> factors.NewTotp:
        """For an authenticator app; it counts once `confirm_totp` was given a code."""
        answer = self.post_secret(at("account", "totp", "begin"), {"password": password.reveal()})
        return self.parse(factors.NewTotp, answer)

    def confirm_totp(self, code: Secret) -> list[str]:
        """Recovery codes, where this is the first factor."""
        answer = self.post_secret(at("account", "totp", "confirm"), {"code": code.reveal()})
        return self.parse(factors.RecoveryCodes, answer).recovery_codes

    def remove_totp(self, password: Secret) -> None:
        self.post_secret(at("account", "totp", "remove"), {"password": password.reveal()})

    def begin_passkey(self, password: Secret) -> factors.Challenge:
        answer = self.post_secret(at("account", "passkeys", "begin"), {"password": password.reveal()})
        return self.parse(factors.Challenge, answer)

    def add_passkey(self, challenge_id: UUID, credential: Mapping[str, object], name: str) -> factors.NewPasskey:
        body = {"challenge_id": str(challenge_id), "credential": dict(credential), "name": name}
        return self.parse(factors.NewPasskey, self.post_secret(at("account", "passkeys"), body))

    def remove_passkey(self, passkey_id: UUID, password: Secret) -> None:
        path = at("account", "passkeys", passkey_id, "remove")
        self.post_secret(path, {"password": password.reveal()})

    def create_recovery_codes(self, password: Secret) -> list[str]:
        answer = self.post_secret(at("account", "recovery-codes"), {"password": password.reveal()})
        return self.parse(factors.RecoveryCodes, answer).recovery_codes

    def remove_factors(self, user_id: UUID) -> None:
        """All of a user who has lost them. For operators."""
        self.call("POST", at("users", user_id, "remove-factors"))

    # identity providers: of a tenant, or of the platform where `tenant` is None. Signing in by one takes a browser.

    def add_provider(
        self,
        tenant: str | None,
        name: str,
        *,
        issuer: str,
        client_id: str,
        client_secret: Secret | None = None,
        links_by_email: bool = False,
        creates_users: bool = False,
        default_role: str | None = None,
    ) -> federation.Provider:
        body: dict[str, object] = {
            "name": name,
            "issuer": issuer,
            "client_id": client_id,
            "client_secret": client_secret.reveal() if client_secret is not None else None,
            "links_by_email": links_by_email,
            "creates_users": creates_users,
        }
        if tenant is not None:
            body["default_role"] = default_role
        return self.parse(federation.Provider, self.post_secret(_providers(tenant), body))

    def list_providers(self, tenant: str | None) -> list[federation.Provider]:
        return self.list_all(federation.Provider, _providers(tenant))

    def remove_provider(self, tenant: str | None, provider_id: UUID) -> None:
        self.call("DELETE", _providers(tenant, provider_id))
