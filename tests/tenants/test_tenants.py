"""Tenants through their service."""

from __future__ import annotations

import asyncio

import pytest

from simples3dms.audit.service import Audit
from simples3dms.context import HOST, WORKER, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound
from simples3dms.kit.ids import new_id
from simples3dms.tenants.service import Tenants

pytestmark = pytest.mark.anyio


@pytest.fixture
def tenants(database: Database) -> Tenants:
    return Tenants(database)


async def _refused(failure: type[Failure], code: str, act: object) -> None:
    with pytest.raises(failure) as caught:
        await act  # type: ignore[misc]
    assert caught.value.problem_code == code


async def test_a_tenant_is_found_by_short_name_and_by_id(tenants: Tenants, database: Database) -> None:
    made = await tenants.create_tenant(HOST, "acme", "Acme & Söhne")
    assert await tenants.get_tenant("acme") == made
    assert await tenants.get_tenant(str(made.id)) == made
    (event,) = await Audit(database).list_events(None)
    assert (event.action, event.target_id, event.principal_name) == ("tenant.created", str(made.id), "host")


@pytest.mark.parametrize("unknown", ["globex", "", "ACME", "a\0b", "\ud800", "a' OR '1'='1", str(new_id()), "0" * 400])
async def test_an_unknown_tenant_is_not_found(tenants: Tenants, unknown: str) -> None:
    await tenants.create_tenant(HOST, "acme", "Acme")
    await _refused(NotFound, "tenant_not_found", tenants.get_tenant(unknown))


@pytest.mark.parametrize(
    "slug", ["", "-a", "A", "a_b", "a b", "a\n", "ä", "a" * 64, "a\0", "0190a6f0-0000-7000-8000-000000000000", "0" * 32]
)
async def test_a_bad_short_name_is_refused(tenants: Tenants, slug: str) -> None:
    await _refused(Invalid, "tenant_slug_invalid", tenants.create_tenant(HOST, slug, "Name"))
    assert await tenants.list_tenants() == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\0b", "a\nb", "\ud800"])
async def test_a_bad_name_is_refused(tenants: Tenants, name: str) -> None:
    await _refused(Invalid, "tenant_name_invalid", tenants.create_tenant(HOST, "acme", name))


async def test_of_two_at_once_one_gets_the_short_name(tenants: Tenants, database: Database) -> None:
    outcomes = await asyncio.gather(
        *(tenants.create_tenant(HOST, "acme", f"Acme {number}") for number in range(6)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert len(refused) == 5
    assert {failure.problem_code for failure in refused} == {"tenant_exists"}
    assert len(await Audit(database).list_events(None)) == 1


async def test_only_operators_make_tenants(tenants: Tenants) -> None:
    for principal in (WORKER, Principal(new_id(), "someone@example.org")):
        await _refused(Forbidden, "operator_required", tenants.create_tenant(principal, "acme", "Acme"))


async def test_pages_join_up(tenants: Tenants) -> None:
    made = [await tenants.create_tenant(HOST, f"t{number}", "Name") for number in range(5)]
    first = await tenants.list_tenants(limit=2)
    second = await tenants.list_tenants(after=first[-1].id, limit=2)
    third = await tenants.list_tenants(after=second[-1].id, limit=2)
    assert sorted(first + second + third, key=lambda tenant: tenant.slug) == made
    assert len(third) == 1
