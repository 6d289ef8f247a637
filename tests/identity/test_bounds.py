"""S-14: tokens bounded by scopes, a tenant and an expiry, which never make more than they hold; services; disabling."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from simples3dms.audit.service import Audit
from simples3dms.context import HOST, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.minting import Bounds
from simples3dms.identity.permissions import OF_TENANT, TENANT_ROLES, Permission, rights_of
from simples3dms.identity.service import Identity
from simples3dms.identity.services.service import ServicePrincipals
from simples3dms.identity.sessions.service import Sessions
from simples3dms.identity.sessions.values import Visitor
from simples3dms.identity.values import Role
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.tenants.service import Tenants
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio
GOOD = Secret("correct horse battery")
READ, WRITE, OWN = Permission.DOCUMENTS_READ, Permission.DOCUMENTS_WRITE, Permission.OWN


@pytest.fixture
def identity(database: Database) -> Identity:
    return Identity(database)


@pytest.fixture
def programs(database: Database) -> ServicePrincipals:
    return ServicePrincipals(database)


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await Tenants(database).create_tenant(HOST, "acme", "Acme")


@pytest.fixture
async def other(database: Database) -> Tenant:
    return await Tenants(database).create_tenant(HOST, "globex", "Globex")


@pytest.fixture
async def anna(identity: Identity, tenant: Tenant, other: Tenant) -> Principal:
    """She owns both tenants."""
    user, _ = await identity.create_user(HOST, "anna@example.org", GOOD)
    for one in (tenant, other):
        await identity.set_member(HOST, one.id, user.email, "owner")
    return Principal(user.id, user.email)


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def _as(identity: Identity, maker: Principal, **bounds: Any) -> Principal:
    return await identity.authenticate((await identity.create_token(maker, "x", **bounds)).token)


async def test_s14_a_token_is_bounded_by_its_scopes(identity: Identity, anna: Principal, tenant: Tenant) -> None:
    bounded = await _as(identity, anna, scopes=[READ, Permission.STORES_WRITE])
    assert await identity.get_rights(bounded, tenant.id) == {READ}
    assert rights_of(bounded) == frozenset()
    whole = await _as(identity, anna)
    assert await identity.get_rights(whole, tenant.id) == TENANT_ROLES[Role.OWNER]
    for scopes in ([], ["documents.everything"], [READ, "x"]):
        await _refused(Invalid, "scope_unknown", identity.create_token(anna, "x", scopes=scopes))


async def test_s14_a_token_is_bounded_by_its_tenant(
    identity: Identity, anna: Principal, tenant: Tenant, other: Tenant, database: Database
) -> None:
    bounded = await _as(identity, anna, tenant_id=tenant.id)
    assert await identity.get_rights(bounded, tenant.id) == TENANT_ROLES[Role.OWNER]
    assert await identity.get_rights(bounded, other.id) == frozenset()
    user, _ = await identity.create_user(HOST, "root@example.org", GOOD, is_operator=True)
    root = Principal(user.id, user.email, is_operator=True)
    bounded = await _as(identity, root, tenant_id=tenant.id)
    assert await identity.get_rights(bounded, tenant.id) == OF_TENANT
    assert await identity.get_rights(bounded, other.id) == frozenset()
    assert Permission.USERS_WRITE not in rights_of(bounded)
    user, _ = await identity.create_user(HOST, "ben@example.org", GOOD)
    ben = Principal(user.id, user.email)
    for unknown in (tenant.id, new_id()):
        await _refused(NotFound, "tenant_not_found", identity.create_token(ben, "x", tenant_id=unknown))


async def test_s14_a_token_makes_none_that_holds_more(
    identity: Identity, anna: Principal, tenant: Tenant, other: Tenant
) -> None:
    bounded = await _as(identity, anna, scopes=[READ, OWN], tenant_id=tenant.id, expires_in_days=2)
    for more in (
        {"scopes": [READ, WRITE]},
        {"scopes": list(Permission)},
        {"tenant_id": other.id},
        {"expires_in_days": 3},
        {"expires_in_days": 3650},
    ):
        await _refused(Forbidden, "token_exceeds", identity.create_token(bounded, "x", **more))  # type: ignore[arg-type]
    made = await identity.create_token(bounded, "heir")
    heir = await identity.authenticate(made.token)
    assert (heir.scopes, heir.tenant_id, made.expires_at) == ({READ, OWN}, tenant.id, bounded.expires_at)
    less = await _as(identity, bounded, scopes=[READ], expires_in_days=1)
    assert less.scopes == {READ}
    assert less.expires_at is not None
    assert bounded.expires_at is not None
    assert less.expires_at < bounded.expires_at
    names = [token.name for token in await identity.list_tokens(anna)]
    assert sorted(names) == ["heir", "x", "x"], "what was refused left nothing"


async def test_s14_the_password_lets_a_token_outlive_its_maker_and_do_no_more(
    identity: Identity, anna: Principal
) -> None:
    bounded = await _as(identity, anna, scopes=[READ, OWN], expires_in_days=1)
    wrong = identity.create_token(bounded, "x", 30, password=Secret("wrong"))
    await _refused(Invalid, "password_wrong", wrong)
    await _refused(Forbidden, "token_exceeds", identity.create_token(bounded, "x", scopes=[WRITE], password=GOOD))
    made = await identity.create_token(bounded, "x", password=GOOD)
    assert made.expires_at is None
    assert (await identity.authenticate(made.token)).scopes == {READ, OWN}


async def test_s14_a_bounded_token_gives_nobody_more_than_it_holds(
    identity: Identity, anna: Principal, tenant: Tenant, programs: ServicePrincipals
) -> None:
    await identity.create_user(HOST, "ben@example.org", GOOD)
    bounded = await _as(identity, anna, scopes=[Permission.MEMBERS_WRITE, Permission.OWNERS_WRITE])
    for role in Role:
        act = identity.set_member(bounded, tenant.id, "ben@example.org", role)
        await _refused(Forbidden, "rights_exceed_own", act)
        made = programs.create_service(bounded, tenant, "bot", role)
        await _refused(Forbidden, "rights_exceed_own", made)
    assert await programs.list_services(tenant.id) == []
    user, _ = await identity.create_user(HOST, "root@example.org", GOOD, is_operator=True)
    root = await _as(identity, Principal(user.id, user.email, is_operator=True), scopes=[Permission.USERS_WRITE])
    act = identity.create_user(root, "eve@example.org", GOOD, is_operator=True)
    await _refused(Forbidden, "rights_exceed_own", act)
    await _refused(Forbidden, "rights_exceed_own", programs.create_service(root, None, "bot", "operator"))
    await identity.create_user(root, "eve@example.org", GOOD)


async def test_s14_whoever_is_shut_out_meanwhile_makes_no_token(
    identity: Identity, anna: Principal, database: Database
) -> None:
    """A thief who asks for one token after another has none that outlives the new password, however the two fall."""
    stolen = await _as(identity, anna)
    session = Sessions(database, identity.sign_in)
    asking = await session.authenticate((await session.sign_in(anna.name, GOOD, Visitor())).secret)
    made: list[Secret] = []

    async def steal() -> None:
        while True:
            made.append((await identity.create_token(stolen, "x")).token)

    thief = asyncio.create_task(steal())
    await identity.change_password(anna, GOOD, Secret("wronger horse battery"))
    with pytest.raises(Unauthenticated):
        async with asyncio.timeout(20):
            await thief
    for token in made:
        await _refused(Unauthenticated, "token_invalid", identity.authenticate(token))
    await _refused(Unauthenticated, "token_invalid", identity.create_token(asking, "x"))


async def test_a_service_acts_by_its_tokens_and_in_its_tenant(
    identity: Identity, anna: Principal, tenant: Tenant, other: Tenant, programs: ServicePrincipals, database: Database
) -> None:
    made = await programs.create_service(anna, tenant, "scanner", "editor")
    assert (made.email, made.role, made.disabled_at) == ("scanner@acme.service.internal", "editor", None)
    await _refused(Conflict, "service_exists", programs.create_service(anna, tenant, "scanner", "viewer"))
    token = await programs.create_token(anna, tenant.id, made.id, "x", Bounds(tenant_id=tenant.id))
    scanner = await identity.authenticate(token.token)
    assert (scanner.id, scanner.name, scanner.is_service) == (made.id, made.email, True)
    assert await identity.get_rights(scanner, tenant.id) == TENANT_ROLES[Role.EDITOR]
    assert rights_of(scanner) == {OWN}
    # It is nobody who signs in, nobody's user, and no member elsewhere.
    await _refused(Unauthenticated, "credentials_wrong", identity.log_in(made.email, Secret("!"), token_name="x"))
    assert made.id not in {user.id for user in await identity.list_users()}
    await _refused(Invalid, "email_invalid", identity.create_user(HOST, "x@acme.service.internal", GOOD))
    await _refused(NotFound, "user_not_found", identity.set_member(HOST, other.id, made.email, "viewer"))
    # Another tenant's looks like one that is not there.
    act = programs.create_token(anna, other.id, made.id, "x", Bounds())
    await _refused(NotFound, "service_not_found", act)
    await _refused(NotFound, "service_not_found", programs.set_disabled(anna, None, made.id, True))
    await _refused(NotFound, "service_not_found", programs.list_tokens(other.id, made.id))
    await identity.set_member(anna, tenant.id, made.email, "viewer")
    assert await identity.get_rights(scanner, tenant.id) == TENANT_ROLES[Role.VIEWER]
    actions = [event.action for event in await Audit(database).list_events(tenant.id)]
    assert actions[:2] == ["member.set", "service.created"]


async def test_a_service_that_is_switched_off_is_out_at_once(
    identity: Identity, anna: Principal, tenant: Tenant, programs: ServicePrincipals
) -> None:
    made = await programs.create_service(anna, tenant, "scanner", "editor")
    token = await programs.create_token(anna, tenant.id, made.id, "x", Bounds())
    assert (await programs.set_disabled(anna, tenant.id, made.id, True)).disabled_at is not None
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(token.token))
    await _refused(Conflict, "service_disabled", programs.create_token(anna, tenant.id, made.id, "x", Bounds()))
    assert (await programs.set_disabled(anna, tenant.id, made.id, False)).disabled_at is None
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(token.token))
    token = await programs.create_token(anna, tenant.id, made.id, "y", Bounds())
    await identity.authenticate(token.token)
    await programs.revoke_token(anna, tenant.id, made.id, token.id)
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(token.token))
    assert [one.name for one in await programs.list_tokens(tenant.id, made.id)] == ["y", "x"]
    await _refused(NotFound, "token_not_found", programs.revoke_token(anna, tenant.id, made.id, new_id()))


@pytest.mark.parametrize("name", ["", "-x", "X", "a b", "a@b", "x" * 64, "\0", "\ud800"])
async def test_a_bad_service_is_refused(
    anna: Principal, tenant: Tenant, programs: ServicePrincipals, name: str
) -> None:
    await _refused(Invalid, "service_name_invalid", programs.create_service(anna, tenant, name, "viewer"))
    for of, role in ((tenant, "operator"), (tenant, None), (None, "viewer")):
        await _refused(Invalid, "role_invalid", programs.create_service(HOST, of, "x", role))


async def test_a_service_of_the_platform(identity: Identity, programs: ServicePrincipals, tenant: Tenant) -> None:
    made = await programs.create_service(HOST, None, "monitor", "auditor")
    assert (made.email, made.role, made.is_auditor) == ("monitor@service.internal", None, True)
    token = await programs.create_token(HOST, None, made.id, "x", Bounds(scopes=[Permission.TENANTS_READ]))
    monitor = await identity.authenticate(token.token)
    assert rights_of(monitor) == {Permission.TENANTS_READ}
    assert [one.id for one in await programs.list_services(None)] == [made.id]
    assert await programs.list_services(tenant.id) == []


async def test_s13_a_disabled_user_is_out_everywhere_and_comes_back_empty_handed(
    identity: Identity, anna: Principal, database: Database
) -> None:
    sessions = Sessions(database, identity.sign_in)
    token = await identity.create_token(anna, "x")
    session = await sessions.sign_in(anna.name, GOOD, Visitor())
    assert anna.id is not None
    assert (await identity.set_disabled(HOST, anna.id, True)).disabled_at is not None
    for _ in range(2):
        await _refused(Unauthenticated, "token_invalid", identity.authenticate(token.token))
        await _refused(Unauthenticated, "session_invalid", sessions.authenticate(session.secret))
        await identity.set_disabled(HOST, anna.id, False)
    await identity.log_in(anna.name, GOOD, token_name="x")
    events = [event.action for event in await Audit(database).list_events(None)]
    assert (events.count("user.disabled"), events.count("user.enabled")) == (1, 1)
    await _refused(NotFound, "user_not_found", identity.set_disabled(HOST, new_id(), True))
    user, _ = await identity.create_user(HOST, "root@example.org", GOOD, is_operator=True)
    root = Principal(user.id, user.email, is_operator=True)
    await _refused(Conflict, "own_account", identity.set_disabled(root, user.id, True))
    bounded = await _as(identity, root, scopes=[Permission.USERS_WRITE])
    user, _ = await identity.create_user(HOST, "boss@example.org", GOOD, is_operator=True)
    await _refused(Forbidden, "rights_exceed_own", identity.set_disabled(bounded, user.id, True))


async def test_s13_another_platform_role_ends_what_was_held(
    identity: Identity, anna: Principal, database: Database
) -> None:
    """Whoever stole a token or a session does not gain what its owner gains, and an operator is left, always."""
    assert anna.id is not None
    sessions = Sessions(database, identity.sign_in)
    user, _ = await identity.create_user(HOST, "root@example.org", GOOD, is_operator=True)
    root = Principal(user.id, user.email, is_operator=True)
    token = await identity.create_token(anna, "x")
    session = await sessions.sign_in(anna.name, GOOD, Visitor())
    changed, _ = await identity.set_platform_role(root, anna.id, "auditor")
    assert (changed.is_operator, changed.is_auditor) == (False, True)
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(token.token))
    await _refused(Unauthenticated, "session_invalid", sessions.authenticate(session.secret))
    assert await identity.set_platform_role(root, anna.id, "auditor") == (changed, None)
    events = [event for event in await Audit(database).list_events(None) if event.action == "user.role_set"]
    assert [(one.target_id, one.details["role"]) for one in events] == [(str(anna.id), "auditor")]
    await _refused(Conflict, "last_operator", identity.set_platform_role(root, user.id, None))
    await _refused(Conflict, "last_operator", identity.set_platform_role(HOST, user.id, "auditor"))
    await _refused(Conflict, "last_operator", identity.set_disabled(HOST, user.id, True))
    await _refused(Invalid, "role_invalid", identity.set_platform_role(root, anna.id, "owner"))
    await _refused(NotFound, "user_not_found", identity.set_platform_role(root, new_id(), "auditor"))
    await _refused(Forbidden, "operator_required", identity.set_platform_role(anna, user.id, None))
    bounded = await _as(identity, root, scopes=[Permission.USERS_WRITE])
    for of, role in ((anna.id, "operator"), (user.id, None)):
        await identity.set_platform_role(root, anna.id, "operator")
        await _refused(Forbidden, "rights_exceed_own", identity.set_platform_role(bounded, of, role))


async def test_operators_who_take_each_others_place_at_once_leave_one(identity: Identity) -> None:
    people = [
        (await identity.create_user(HOST, f"{name}@example.org", GOOD, is_operator=True))[0] for name in ("a", "b")
    ]

    async def demote(by: Principal, of: UUID) -> object:
        return await identity.set_platform_role(by, of, None)

    async def disable(by: Principal, of: UUID) -> object:
        return await identity.set_disabled(by, of, True)

    for act in (demote, disable):
        pairs = [(Principal(one.id, one.email, is_operator=True), two) for one, two in (people, people[::-1])]
        results = await asyncio.gather(*(act(by, of.id) for by, of in pairs), return_exceptions=True)
        failed = [one for one in results if isinstance(one, BaseException)]
        assert [one.problem_code for one in failed if isinstance(one, Conflict)] == ["last_operator"]
        assert len(failed) == 1
        for one in people:
            await identity.set_disabled(HOST, one.id, False)
            await identity.set_platform_role(HOST, one.id, "operator")
