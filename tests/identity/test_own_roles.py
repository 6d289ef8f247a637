"""S-12: who changes what he is himself goes on under a new secret, which is the session's in the same unit of work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.db.session import UnitOfWork
from simples3dms.errors import Unauthenticated
from simples3dms.identity import service
from simples3dms.identity.invitations import service as invitations_service
from simples3dms.identity.sessions.service import renew
from simples3dms.identity.sessions.values import NewSession, Visitor
from simples3dms.kit.secret import Secret
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio
GOOD = Secret("correct horse battery")


@dataclass(frozen=True)
class Changing:
    """Anna, an operator and an owner, is about to change what she is."""

    services: Services
    tenant: Tenant
    other: Tenant
    mine: NewSession
    asking: Principal
    invitation: Secret

    async def what_she_is(self) -> object:
        identity = self.services.identity
        places = [await identity.list_members(tenant.id) for tenant in (self.tenant, self.other)]
        return await identity.get_user(self.asking.name), places


async def _lose_platform_role(given: Changing) -> NewSession | None:
    assert given.asking.id is not None
    return (await given.services.identity.set_platform_role(given.asking, given.asking.id, None))[1]


async def _become_auditor(given: Changing) -> NewSession | None:
    assert given.asking.id is not None
    return (await given.services.identity.set_platform_role(given.asking, given.asking.id, "auditor"))[1]


async def _become_editor(given: Changing) -> NewSession | None:
    identity = given.services.identity
    return (await identity.set_member(given.asking, given.tenant.id, given.asking.name, "editor"))[1]


async def _leave(given: Changing) -> NewSession | None:
    return await given.services.identity.remove_member(given.asking, given.tenant.id, given.asking.name)


async def _join(given: Changing) -> NewSession | None:
    return (await given.services.invitations.join(given.asking, given.invitation, address=""))[1]


ACTS = [_lose_platform_role, _become_auditor, _become_editor, _leave, _join]
Act = Callable[[Changing], Awaitable[NewSession | None]]


@pytest.fixture
async def given(services: Services) -> Changing:
    identity = services.identity
    tenant = await services.tenants.create_tenant(HOST, "acme", "Acme")
    other = await services.tenants.create_tenant(HOST, "globex", "Globex")
    anna, _ = await identity.create_user(HOST, "anna@example.org", GOOD, is_operator=True)
    otto, _ = await identity.create_user(HOST, "otto@example.org", GOOD, is_operator=True)
    for user in (anna, otto):
        await identity.set_member(HOST, tenant.id, user.email, "owner")
    _, hand_over = await services.invitations.invite(HOST, other, anna.email, "viewer")
    assert hand_over is not None
    mine = await services.sessions.sign_in(anna.email, GOOD, Visitor())
    asking = await services.sessions.authenticate(mine.secret)
    return Changing(services, tenant, other, mine, asking, hand_over.token)


@pytest.mark.parametrize("act", ACTS)
async def test_s12_the_old_secret_is_over_with_the_change_and_the_new_one_is_told(given: Changing, act: Act) -> None:
    before = await given.what_she_is()
    elsewhere = await given.services.sessions.sign_in(given.asking.name, GOOD, Visitor())
    renewed = await act(given)
    assert await given.what_she_is() != before
    for gone in (given.mine, elsewhere):
        with pytest.raises(Unauthenticated) as caught:
            await given.services.sessions.authenticate(gone.secret)
        assert caught.value.problem_code == "session_invalid"
    assert renewed is not None
    principal = await given.services.sessions.authenticate(renewed.secret)
    assert (principal.session_id, renewed.id, principal.id) == (given.mine.id, given.mine.id, given.asking.id)
    user = await given.services.identity.get_user(principal.name)
    assert (principal.is_operator, principal.is_auditor) == (user.is_operator, user.is_auditor)


@pytest.mark.parametrize("act", ACTS)
async def test_s12_a_change_that_fails_leaves_the_old_secret_as_it_was(
    given: Changing, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What she is, her other sessions and the secret change together, or none of it does."""
    before = await given.what_she_is()
    elsewhere = await given.services.sessions.sign_in(given.asking.name, GOOD, Visitor())

    async def renew_and_fail(uow: UnitOfWork, principal: Principal) -> NewSession | None:
        await renew(uow, principal)
        raise ConnectionError("the database is gone")

    monkeypatch.setattr(service, "renew", renew_and_fail)
    monkeypatch.setattr(invitations_service, "renew", renew_and_fail)
    with pytest.raises(ConnectionError):
        await act(given)
    assert await given.what_she_is() == before
    for held in (given.mine, elsewhere):
        assert (await given.services.sessions.authenticate(held.secret)) == given.asking
    monkeypatch.undo()
    assert await act(given) is not None


@pytest.mark.parametrize("act", ACTS)
async def test_s12_where_no_session_asks_there_is_none_to_renew(given: Changing, act: Act) -> None:
    token = await given.services.identity.create_token(given.asking, "x")
    bearer = replace(given, asking=await given.services.identity.authenticate(token.token))
    assert await act(bearer) is None
    with pytest.raises(Unauthenticated):
        await given.services.sessions.authenticate(given.mine.secret)


async def test_s12_what_changes_nothing_and_what_others_are_renews_nothing(given: Changing) -> None:
    identity, asking = given.services.identity, given.asking
    assert asking.id is not None
    assert (await identity.set_member(asking, given.tenant.id, asking.name, "owner"))[1] is None
    assert (await identity.set_platform_role(asking, asking.id, "operator"))[1] is None
    otto = await identity.get_user("otto@example.org")
    assert (await identity.set_member(asking, given.tenant.id, otto.email, "viewer"))[1] is None
    assert (await identity.set_platform_role(asking, otto.id, "auditor"))[1] is None
    assert await identity.remove_member(asking, given.tenant.id, otto.email) is None
    await given.services.sessions.authenticate(given.mine.secret)
