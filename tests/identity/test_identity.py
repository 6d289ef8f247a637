"""Users, members and roles through the service: who may do what, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simples3dms.audit.service import Audit
from simples3dms.context import HOST, WORKER, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.permissions import OF_TENANT, TENANT_ROLES, Permission, require
from simples3dms.identity.service import Identity, require_operator
from simples3dms.identity.values import Role
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.tenants.service import Tenants
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio
GOOD = Secret("correct horse battery")


@pytest.fixture
def identity(database: Database) -> Identity:
    return Identity(database)


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await Tenants(database).create_tenant(HOST, "acme", "Acme")


async def _user(identity: Identity, email: str) -> Principal:
    user, _ = await identity.create_user(HOST, email, GOOD)
    return Principal(user.id, user.email)


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def test_of_many_starts_at_once_one_makes_the_first_operator(database: Database) -> None:
    # Each start has a service of its own, as each process would.
    starts = await asyncio.gather(*(Identity(database).ensure_first_operator() for _ in range(5)))
    (made,) = [start for start in starts if start is not None]
    assert made.email == "admin@localhost"
    assert "***" in repr(made)
    identity = Identity(database)
    assert await identity.ensure_first_operator() is None
    token = await identity.log_in(made.email, made.password, token_name="laptop")
    assert (await identity.authenticate(token.token)).is_operator
    assert [user.is_operator for user in await identity.list_users()] == [True]


async def test_a_first_operator_is_made_although_there_are_users(identity: Identity) -> None:
    await _user(identity, "anna@example.org")
    assert await identity.ensure_first_operator("root@example.org") is not None
    users = await identity.list_users()
    assert [(user.email, user.is_operator) for user in users] == [
        ("anna@example.org", False),
        ("root@example.org", True),
    ]


async def test_a_user_is_made_with_a_password_given_or_generated(identity: Identity, database: Database) -> None:
    user, generated = await identity.create_user(HOST, " Anna@Example.org ", GOOD)
    assert (user.email, user.is_operator, user.disabled_at, generated) == ("anna@example.org", False, None, None)
    _, generated = await identity.create_user(HOST, "ben@example.org")
    assert generated is not None
    await identity.log_in("ben@example.org", generated.password, token_name="x")
    await identity.log_in("ANNA@example.org", GOOD, token_name="x")
    actions = [event.action for event in await Audit(database).list_events(None)]
    assert actions == ["token.created", "token.created", "user.created", "user.created"]


@pytest.mark.parametrize(
    "email", ["", "anna", "@", "a@", "@b", "a b@c", "a@b@c", "a\0@b", "a@b\n.org", "\ud800@b", "a@" + "b" * 200]
)
async def test_a_bad_address_is_refused(identity: Identity, email: str) -> None:
    await _refused(Invalid, "email_invalid", identity.create_user(HOST, email, GOOD))


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 1025, "x" * 12 + "\ud800"])
async def test_a_bad_password_is_refused(identity: Identity, password: str) -> None:
    await _refused(Invalid, "password_invalid", identity.create_user(HOST, "anna@example.org", Secret(password)))
    assert await identity.list_users() == []


async def test_an_address_belongs_to_one_user(identity: Identity) -> None:
    await _user(identity, "anna@example.org")
    await _refused(Conflict, "user_exists", identity.create_user(HOST, "Anna@example.org", GOOD))


async def test_only_operators_make_users(identity: Identity) -> None:
    anna = await _user(identity, "anna@example.org")
    for principal in (anna, WORKER):
        await _refused(Forbidden, "operator_required", identity.create_user(principal, "ben@example.org", GOOD))


async def test_roles(identity: Identity, tenant: Tenant) -> None:
    anna, ben = await _user(identity, "anna@example.org"), await _user(identity, "ben@example.org")
    assert not await identity.get_rights(anna, tenant.id)
    assert not await identity.get_rights(WORKER, tenant.id)
    assert await identity.get_rights(HOST, tenant.id) == OF_TENANT
    await identity.set_member(HOST, tenant.id, "anna@example.org", "administrator")
    member, _ = await identity.set_member(anna, tenant.id, "Ben@example.org", Role.EDITOR)
    assert (member.user_id, member.email, member.role) == (ben.id, "ben@example.org", "editor")
    assert await identity.get_rights(anna, tenant.id) == TENANT_ROLES[Role.ADMINISTRATOR]
    assert await identity.get_rights(ben, tenant.id) == TENANT_ROLES[Role.EDITOR]
    assert not await identity.get_rights(ben, new_id())
    assert [member.email for member in await identity.list_members(tenant.id)] == [anna.name, ben.name]
    await identity.set_member(anna, tenant.id, "ben@example.org", "administrator")
    assert await identity.get_rights(ben, tenant.id) == TENANT_ROLES[Role.ADMINISTRATOR]
    await identity.remove_member(anna, tenant.id, "ben@example.org")
    assert not await identity.get_rights(ben, tenant.id)
    await _refused(NotFound, "member_not_found", identity.remove_member(anna, tenant.id, "ben@example.org"))


async def test_changes_of_members_are_in_the_tenants_own_audit(
    identity: Identity, tenant: Tenant, database: Database
) -> None:
    anna = await _user(identity, "anna@example.org")
    await identity.set_member(HOST, tenant.id, "anna@example.org", "administrator")
    await identity.remove_member(anna, tenant.id, "anna@example.org")
    events = await Audit(database).list_events(tenant.id)
    assert [(event.action, event.principal_name, event.target_id) for event in events] == [
        ("member.removed", "anna@example.org", str(anna.id)),
        ("member.set", "host", str(anna.id)),
    ]


async def test_only_administrators_of_this_tenant_manage_its_members(
    identity: Identity, tenant: Tenant, database: Database
) -> None:
    other = await Tenants(database).create_tenant(HOST, "globex", "Globex")
    anna, ben = await _user(identity, "anna@example.org"), await _user(identity, "ben@example.org")
    await identity.set_member(HOST, tenant.id, anna.name, "administrator")
    await identity.set_member(HOST, tenant.id, ben.name, "viewer")
    await _refused(Forbidden, "permission_required", identity.set_member(ben, tenant.id, ben.name, "administrator"))
    await _refused(Forbidden, "permission_required", identity.remove_member(ben, tenant.id, anna.name))
    await _refused(NotFound, "tenant_not_found", identity.set_member(anna, other.id, anna.name, "administrator"))
    await _refused(NotFound, "tenant_not_found", identity.set_member(WORKER, other.id, anna.name, "administrator"))
    assert await identity.list_members(other.id) == []


async def test_owners_are_changed_by_owners_and_the_last_one_stays(identity: Identity, tenant: Tenant) -> None:
    people = {name: await _user(identity, f"{name}@example.org") for name in ("olga", "otto", "anna", "ben")}
    olga, otto, anna, ben = people.values()
    await identity.set_member(HOST, tenant.id, olga.name, "owner")
    await identity.set_member(olga, tenant.id, anna.name, "administrator")
    for act in (
        identity.set_member(anna, tenant.id, ben.name, "owner"),
        identity.set_member(anna, tenant.id, olga.name, "viewer"),
        identity.remove_member(anna, tenant.id, olga.name),
        identity.set_member(anna, tenant.id, anna.name, "owner"),
    ):
        await _refused(Forbidden, "permission_required", act)
    for act in (
        identity.set_member(olga, tenant.id, olga.name, "administrator"),
        identity.remove_member(olga, tenant.id, olga.name),
    ):
        await _refused(Conflict, "last_owner", act)
    await identity.set_member(olga, tenant.id, otto.name, "owner")
    # Both at once: whoever comes second finds that nobody else is left.
    outcomes = await asyncio.gather(
        identity.remove_member(olga, tenant.id, otto.name),
        identity.remove_member(otto, tenant.id, olga.name),
        return_exceptions=True,
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    [left] = [member for member in await identity.list_members(tenant.id) if member.role == "owner"]
    await identity.remove_member(HOST, tenant.id, left.email)


async def test_bad_members_are_refused(identity: Identity, tenant: Tenant) -> None:
    await _user(identity, "anna@example.org")
    await _refused(Invalid, "role_invalid", identity.set_member(HOST, tenant.id, "anna@example.org", "admin"))
    await _refused(
        NotFound, "tenant_not_found", identity.set_member(HOST, new_id(), "anna@example.org", "administrator")
    )
    for unknown in ("nobody@example.org", "\0", "x" * 5000):
        await _refused(NotFound, "user_not_found", identity.set_member(HOST, tenant.id, unknown, "administrator"))
    await _refused(NotFound, "user_not_found", identity.remove_member(HOST, tenant.id, "\0"))


async def test_pages_of_users_join_up(identity: Identity) -> None:
    for number in range(3):
        await _user(identity, f"user{number}@example.org")
    first = await identity.list_users(limit=2)
    assert len(first + await identity.list_users(after=first[-1].id, limit=2)) == 3


def test_what_a_role_is_enough_for() -> None:
    require_operator(HOST)
    require(TENANT_ROLES[Role.ADMINISTRATOR], Permission.MEMBERS_WRITE)
    with pytest.raises(Forbidden, match=r"members\.write: ask an administrator or owner"):
        require(TENANT_ROLES[Role.EDITOR], Permission.MEMBERS_WRITE)
    with pytest.raises(Forbidden, match=r"stores\.read: ask an operator"):
        require(TENANT_ROLES[Role.OWNER], Permission.STORES_READ)
    with pytest.raises(Forbidden):
        require_operator(WORKER)


async def test_a_wrong_log_in_has_one_answer(identity: Identity, database: Database) -> None:
    await _user(identity, "anna@example.org")
    await _user(identity, "gone@example.org")
    async with database.platform() as uow:
        await uow.execute("UPDATE users SET disabled_at = now() WHERE email = 'gone@example.org'")
    answers = set()
    for email, password in [
        ("anna@example.org", Secret("wrong horse battery")),
        ("anna@example.org", Secret("")),
        ("nobody@example.org", GOOD),
        ("gone@example.org", GOOD),
        ("anna@example.org\0", GOOD),
        ("not an address", GOOD),
        ("\ud800@example.org", Secret("\ud800")),
        ("x" * 100_000, GOOD),
    ]:
        with pytest.raises(Unauthenticated) as caught:
            await identity.log_in(email, password, token_name="x")
        answers.add((caught.value.problem_code, caught.value.message, tuple(caught.value.extra)))
    assert answers == {("credentials_wrong", "The e-mail address or the password is wrong.", ())}
