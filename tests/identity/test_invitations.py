"""Invitations and resets: secrets that are used once, for a time, by whom they are for; letters by a real server."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import AuthResult, LoginPassword
from tests.identity.mailbox import Mailbox, mail_server

from simples3dms.audit.service import Audit
from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.permissions import TENANT_ROLES, Permission
from simples3dms.identity.sessions.values import Visitor
from simples3dms.identity.values import Role
from simples3dms.jobs import watchdog
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.mail import MailFailed, Message, SmtpMailer, SmtpSettings
from simples3dms.settings import Settings
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio
GOOD, BETTER = Secret("correct horse battery"), Secret("wronger horse battery")
PUBLIC = "https://documents.example.org/app/"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"public_url": PUBLIC})


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    with mail_server() as found:
        yield found


@pytest.fixture
async def posting(settings: Settings, mailbox: tuple[Mailbox, int]) -> Any:
    """Services that send mail."""
    given = {"smtp_host": "127.0.0.1", "smtp_port": mailbox[1], "smtp_tls": "none", "retry_base_seconds": 0.05}
    services = await asyncio.to_thread(build_services, settings.model_copy(update=given))
    await services.open()
    yield services
    await services.close()


@pytest.fixture
async def tenant(services: Services) -> Tenant:
    return await services.tenants.create_tenant(HOST, "acme", "Acme")


async def _user(services: Services, email: str, **given: Any) -> Principal:
    user, _ = await services.identity.create_user(HOST, email, GOOD, **given)
    return Principal(user.id, user.email, user.is_operator)


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def _invite(services: Services, tenant: Tenant, email: str, role: str = "editor", by: Principal = HOST) -> Secret:
    _, hand_over = await services.invitations.invite(by, tenant, email, role)
    assert hand_over is not None
    return hand_over.token


async def _accept(services: Services, token: Secret) -> str:
    return await services.invitations.accept(token, GOOD, address="")


async def test_an_invitation_makes_an_account_with_a_place_once(services: Services, tenant: Tenant) -> None:
    made, hand_over = await services.invitations.invite(HOST, tenant, " Anna@Example.org", "editor")
    assert hand_over is not None
    assert hand_over.link is not None
    assert hand_over.link.reveal() == f"https://documents.example.org/app/accept-invitation#{hand_over.token.reveal()}"
    # Of many at once, one is first.
    outcomes = await asyncio.gather(*(_accept(services, hand_over.token) for _ in range(5)), return_exceptions=True)
    assert outcomes.count("anna@example.org") == 1
    codes = {one.problem_code for one in outcomes if isinstance(one, Failure)}
    assert codes <= {"invitation_invalid", "account_exists"}
    token = await services.identity.log_in("anna@example.org", GOOD, token_name="x")
    anna = await services.identity.authenticate(token.token)
    assert await services.identity.get_rights(anna, tenant.id) == TENANT_ROLES[Role.EDITOR]
    (listed,) = await services.invitations.list_invitations(tenant.id)
    assert listed.id == made.id
    assert listed.accepted_at is not None
    events = [event.action for event in await services.audit.list_events(tenant.id)]
    assert events[:2] == ["invitation.accepted", "invitation.created"]
    await _refused(Conflict, "member_exists", services.invitations.invite(HOST, tenant, "anna@example.org", "owner"))


async def test_a_dump_holds_no_secret_that_lets_in(services: Services, tenant: Tenant, database: Database) -> None:
    invitation = await _invite(services, tenant, "anna@example.org")
    ben = await _user(services, "ben@example.org")
    assert ben.id is not None
    reset = await services.resets.create(HOST, ben.id)
    async with database.platform() as uow:
        dump = await uow.scalars(
            """SELECT i::text FROM invitations i UNION ALL SELECT r::text FROM password_resets r
               UNION ALL SELECT a::text FROM audit_events a"""
        )
    assert not any(secret.reveal()[10:30] in row for secret in (invitation, reset.token) for row in dump)


async def test_an_invitation_is_joined_by_whom_it_is_for(services: Services, tenant: Tenant) -> None:
    anna, ben = await _user(services, "anna@example.org"), await _user(services, "ben@example.org")
    token = await _invite(services, tenant, "anna@example.org")
    await _refused(Conflict, "account_exists", _accept(services, token))
    for other in (ben, HOST):
        await _refused(Forbidden, "invitation_not_yours", services.invitations.join(other, token, address=""))
    mine = await services.sessions.sign_in(anna.name, GOOD, Visitor())
    elsewhere = await services.sessions.sign_in(anna.name, GOOD, Visitor())
    asking = await services.sessions.authenticate(mine.secret)
    assert (await services.invitations.join(asking, token, address=""))[0] == tenant.id
    assert await services.identity.get_rights(anna, tenant.id) == TENANT_ROLES[Role.EDITOR]
    # S-12: rights grow in no session but the one that asked, which its door gives a new secret.
    await _refused(Unauthenticated, "session_invalid", services.sessions.authenticate(elsewhere.secret))
    await _refused(NotFound, "invitation_invalid", services.invitations.join(anna, token, address=""))


@pytest.mark.parametrize("end", ["expires_at = now()", "revoked_at = now()", "accepted_at = now(), accepted_by = %s"])
async def test_an_ended_invitation_is_worth_nothing(
    services: Services, tenant: Tenant, database: Database, end: str
) -> None:
    ben = await _user(services, "ben@example.org")
    token = await _invite(services, tenant, "anna@example.org")
    async with database.platform() as uow:
        await uow.execute(f"UPDATE invitations SET {end}", [ben.id] if "%s" in end else None)  # type: ignore[arg-type]
    for wrong in (token, Secret(""), Secret("x"), Secret("\ud800"), Secret(token.reveal()[:-1])):
        await _refused(NotFound, "invitation_invalid", _accept(services, wrong))
    assert [user.email for user in await services.identity.list_users()] == ["ben@example.org"]


async def test_who_may_invite_as_what(services: Services, tenant: Tenant, database: Database) -> None:
    anna, ben = await _user(services, "anna@example.org"), await _user(services, "ben@example.org")
    await services.identity.set_member(HOST, tenant.id, anna.name, "administrator")
    await services.identity.set_member(HOST, tenant.id, ben.name, "viewer")
    invite = services.invitations.invite
    await _refused(Forbidden, "permission_required", invite(ben, tenant, "x@example.org", "viewer"))
    await _refused(Forbidden, "permission_required", invite(anna, tenant, "x@example.org", "owner"))
    await _refused(Invalid, "role_invalid", invite(anna, tenant, "x@example.org", "admin"))
    for email in ("", "x", "x@y@z", "x@acme.service.internal", "a\0@b"):
        await _refused(Invalid, "email_invalid", invite(anna, tenant, email, "viewer"))
    bounded = await services.identity.create_token(anna, "x", scopes=[Permission.MEMBERS_WRITE])
    weak = await services.identity.authenticate(bounded.token)
    await _refused(Forbidden, "rights_exceed_own", invite(weak, tenant, "x@example.org", "editor"))
    # What an inviter may not give any more, nobody takes: S-57.
    token = await _invite(services, tenant, "x@example.org", "editor", by=anna)
    made, _ = await invite(anna, tenant, "y@example.org", "editor")
    await services.identity.set_member(HOST, tenant.id, anna.name, "viewer")
    await _refused(NotFound, "invitation_invalid", _accept(services, token))
    await services.identity.set_member(HOST, tenant.id, anna.name, "administrator")
    await services.tenants.suspend_tenant(HOST, "acme", "x")
    await _refused(Forbidden, "tenant_suspended", _accept(services, token))
    await services.tenants.resume_tenant(HOST, "acme")
    await services.invitations.revoke(anna, tenant.id, made.id)
    await services.invitations.revoke(anna, tenant.id, made.id)
    await _refused(NotFound, "invitation_not_found", services.invitations.revoke(anna, new_id(), made.id))
    await _accept(services, token)


async def test_a_reset_that_is_handed_over(services: Services) -> None:
    anna = await _user(services, "anna@example.org")
    root = await _user(services, "root@example.org", is_operator=True)
    assert anna.id is not None
    old = await services.identity.create_token(anna, "x")
    session = await services.sessions.sign_in(anna.name, GOOD, Visitor())
    await _refused(Forbidden, "operator_required", services.resets.create(anna, anna.id))
    await _refused(NotFound, "user_not_found", services.resets.create(HOST, new_id()))
    bounded = await services.identity.create_token(root, "x", scopes=[Permission.USERS_WRITE])
    weak = await services.identity.authenticate(bounded.token)
    assert root.id is not None
    await _refused(Forbidden, "rights_exceed_own", services.resets.create(weak, root.id))
    first, second = [await services.resets.create(weak, anna.id) for _ in range(2)]
    assert second.link is not None
    assert second.link.reveal().startswith("https://documents.example.org/app/reset-password#s3dmsr_")
    use = services.resets.use
    await _refused(Invalid, "password_invalid", use(second.token, Secret("short"), address=""))
    outcomes = await asyncio.gather(*(use(second.token, BETTER, address="") for _ in range(4)), return_exceptions=True)
    assert outcomes.count(None) == 1
    for again in (first, second):
        await _refused(NotFound, "reset_invalid", use(again.token, GOOD, address=""))
    await _refused(Unauthenticated, "token_invalid", services.identity.authenticate(old.token))
    await _refused(Unauthenticated, "session_invalid", services.sessions.authenticate(session.secret))
    await services.identity.log_in(anna.name, BETTER, token_name="x")


async def test_a_reset_ends_with_time_and_with_its_user(services: Services, database: Database) -> None:
    anna = await _user(services, "anna@example.org")
    assert anna.id is not None
    for end in ("password_resets SET expires_at = now()", "users SET disabled_at = now()"):
        made = await services.resets.create(HOST, anna.id)
        async with database.platform() as uow:
            await uow.execute(f"UPDATE {end}")  # type: ignore[arg-type]
        await _refused(NotFound, "reset_invalid", services.resets.use(made.token, BETTER, address=""))


async def _jobs(services: Services) -> None:
    """Do what a worker does with the letters that are due."""
    async with services.database.platform() as uow:
        due = await uow.scalars("SELECT id FROM letters WHERE state = 'pending' ORDER BY id")
    for letter_id in due:
        await services.letters.send(letter_id)


async def _letters(database: Database) -> list[tuple[str, int]]:
    async with database.platform() as uow:
        found = await uow.scalars("SELECT state || ' ' || attempt FROM letters")
        return [(text.split()[0], int(text.split()[1])) for text in found]


async def test_s11_a_reset_by_mail_answers_all_alike(
    posting: Services, mailbox: tuple[Mailbox, int], database: Database
) -> None:
    """The same rows are written for any address; who it is, is looked up when the letter is written."""
    anna = await _user(posting, "anna@example.org")
    await _user(posting, "gone@example.org")
    async with database.platform() as uow:
        await uow.execute("UPDATE users SET disabled_at = now() WHERE email = 'gone@example.org'")
    for email in ("Anna@example.org", "gone@example.org", "nobody@example.org", "no address", "\ud800"):
        await posting.resets.request(email, address="")
    assert len(await _letters(database)) == 5
    await _jobs(posting)
    assert await _letters(database) == []
    box, _ = mailbox
    ((to, letter),) = box.came
    assert (to, letter["To"], letter["Subject"]) == (["anna@example.org"], "anna@example.org", "A new password")
    (link,) = box.links()
    token = Secret(link.removeprefix("https://documents.example.org/app/reset-password#"))
    await posting.resets.use(token, BETTER, address="")
    await posting.identity.log_in(anna.name, BETTER, token_name="x")


async def test_an_invitation_by_mail_is_not_shown_to_who_invites(
    posting: Services, tenant: Tenant, mailbox: tuple[Mailbox, int]
) -> None:
    _, hand_over = await posting.invitations.invite(HOST, tenant, "anna@example.org", "viewer")
    assert hand_over is None
    await _jobs(posting)
    (link,) = mailbox[0].links()
    assert await _accept(posting, Secret(link.rpartition("#")[2])) == "anna@example.org"


async def test_a_letter_waits_for_its_server_and_is_written_anew(
    posting: Services, tenant: Tenant, mailbox: tuple[Mailbox, int], database: Database
) -> None:
    box, _ = mailbox
    box.answer = "451 try later"
    await posting.invitations.invite(HOST, tenant, "anna@example.org", "viewer")
    await _jobs(posting)
    assert await _letters(database) == [("pending", 1)]
    box.answer = "250 OK"
    async with database.platform() as uow:
        await uow.execute("UPDATE letters SET due_at = now()")
        # The job is lost; the watchdog finds the row.
    await watchdog.tick(posting)
    await _jobs(posting)
    assert await _letters(database) == []
    assert len(box.came) == 1
    await _accept(posting, Secret(box.links()[0].rpartition("#")[2]))


async def test_a_worker_that_died_after_sending_sends_again_and_the_newest_link_works(
    posting: Services, tenant: Tenant, mailbox: tuple[Mailbox, int], database: Database
) -> None:
    box, _ = mailbox
    await posting.invitations.invite(HOST, tenant, "anna@example.org", "viewer")
    async with database.platform() as uow:
        letter_id = await uow.scalar("SELECT id FROM letters")
        # As it was claimed, and its claimant killed before it could say so.
        await uow.execute("UPDATE letters SET fence = 1, attempt = 1, lease_until = now() + interval '1 hour'")
    await posting.letters.send(letter_id)
    assert box.came == [], "somebody else is at it"
    async with database.platform() as uow:
        await uow.execute("UPDATE letters SET lease_until = now() - interval '1 s'")
    await posting.letters.send(letter_id)
    assert len(box.came) == 1
    assert await _letters(database) == []


async def test_what_can_never_be_sent_is_put_aside(
    posting: Services, tenant: Tenant, mailbox: tuple[Mailbox, int], database: Database
) -> None:
    mailbox[0].refuses = "550 no such mailbox"
    for email in ("anna@example.org", "a,b@example.org", "<x>@example.org"):
        await posting.invitations.invite(HOST, tenant, email, "viewer")
    await _jobs(posting)
    assert await _letters(database) == [("needs_attention", 1)] * 3
    assert mailbox[0].came == []
    letters = posting.letters
    first, second, third = await letters.list_unsent()
    assert [one.email for one in (first, second, third)] == ["anna@example.org", "a,b@example.org", "<x>@example.org"]
    assert (first.state, first.kind, "550" in (first.last_error or "")) == ("needs_attention", "invitation", True)
    assert await letters.list_unsent(after=second.id) == [third]
    assert await letters.list_unsent(limit=1) == [first]
    await letters.drop(HOST, second.id)
    for act in (letters.drop, letters.retry):
        with pytest.raises(NotFound) as caught:
            await act(HOST, second.id)
        assert caught.value.problem_code == "letter_not_found"
        with pytest.raises(Forbidden):
            await act(Principal(new_id(), "anna@example.org"), first.id)
    mailbox[0].refuses = None
    assert (await letters.retry(HOST, first.id)).state == "pending"
    await _jobs(posting)
    assert [to for to, _ in mailbox[0].came] == [["anna@example.org"]]
    assert await letters.list_unsent() == [third]
    actions = [event.action for event in await posting.audit.list_events(None)]
    assert [action for action in actions if action.startswith("letter.")] == ["letter.retried", "letter.dropped"]


async def test_a_secret_in_a_letter_is_not_logged(posting: Services) -> None:
    message = Message("anna@example.org", "x", Secret("https://x/#secret"))
    assert "secret" not in repr(message)


async def test_mail_goes_under_tls_to_a_server_that_proves_itself(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    password = secrets.token_urlsafe(12)

    def authenticate(server: object, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        return AuthResult(success=isinstance(data, LoginPassword) and data.password.decode() == password)

    with mail_server(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate) as (
        box,
        port,
    ):
        settings = SmtpSettings(
            "localhost", port, "S <s@localhost>", "starttls", "us", Secret(password), str(tmp_path / "ca.pem")
        )
        message = Message("anna@example.org", "One\n two", Secret("text"))
        await SmtpMailer(settings).send(message)
        assert box.came[0][1]["Subject"] == "One two"
        untrusted = SmtpSettings("localhost", port, "s@localhost", "starttls", "us", Secret(password))
        plain = SmtpSettings("localhost", port, "s@localhost", "none")
        for wrong in (untrusted, plain):
            with pytest.raises(MailFailed) as caught:
                await SmtpMailer(wrong).send(message)
            assert not caught.value.is_final
        assert len(box.came) == 1


async def test_mail_without_a_public_address_is_refused_at_the_start(settings: Settings) -> None:
    with pytest.raises(Invalid, match="SIMPLES3DMS_PUBLIC_URL"):
        await asyncio.to_thread(
            build_services, settings.model_copy(update={"smtp_host": "127.0.0.1", "public_url": None})
        )


async def test_the_audit_tells_of_each_step(services: Services, tenant: Tenant) -> None:
    anna = await _user(services, "anna@example.org")
    assert anna.id is not None
    made = await services.resets.create(HOST, anna.id)
    await services.resets.use(made.token, BETTER, address="")
    events = [event.action for event in await Audit(services.database).list_events(None)]
    assert events[:2] == ["password.reset", "password_reset.created"]
