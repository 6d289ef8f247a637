"""F41: clocks that are changed, leap days and ends of months: all times are moments, and all lengths are seconds."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql
from tests.conftest import Cluster
from tests.support import make_place

import simples3dms
from simples3dms.audit.chain import spell_time
from simples3dms.bootstrap import build_services
from simples3dms.context import HOST
from simples3dms.settings import Settings
from simples3dms.storage.migrations.windows import is_open, parse
from simples3dms.storage.reconciles.values import Reconcile

VIENNA = ZoneInfo("Europe/Vienna")
ZONES = ["UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia"]
#: PostgreSQL takes these for days of the session's time zone, of which some have 23 hours and others 25.
CALENDAR = re.compile(r"\b(days|weeks|months|years) *=>|interval '[^']*\b(day|week|month|year|mon)s?\b", re.IGNORECASE)
moments = st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 as it asks for


@given(moments, moments, st.sampled_from(ZONES), st.sampled_from(ZONES))
@example(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 15, tzinfo=UTC), ZONES[1], ZONES[1])
@example(datetime(2028, 2, 29, 23, 59, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC), ZONES[2], ZONES[4])
def test_f41_the_audit_s_times_are_utc_wherever_they_are_read(
    one: datetime, other: datetime, here: str, there: str
) -> None:
    first, second = (spell_time(at.astimezone(ZoneInfo(zone))) for at, zone in ((one, here), (other, there)))
    assert first == one.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert (first < second) == (one < other), "the order of the texts is that of the moments"


def _open_minutes(day: date) -> int:
    """How long workers may move bytes in the night that begins on this day, by Vienna's clocks."""
    window = parse(
        {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "opens": "22:00", "closes": "06:00"}
        | {"zone": VIENNA.key}
    )
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=VIENNA).astimezone(UTC)
    return sum(is_open([window], noon + timedelta(minutes=minute)) for minute in range(24 * 60))


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        (date(2026, 3, 28), 7),
        (date(2026, 10, 24), 9),
        (date(2028, 2, 28), 8),
        (date(2028, 2, 29), 8),
        (date(2027, 2, 28), 8),
        (date(2026, 12, 31), 8),
    ],
)
def test_f41_a_window_is_as_long_as_the_night(day: date, hours: int) -> None:
    assert _open_minutes(day) == hours * 60


@given(
    unexplained=st.integers(0, 10**18),
    hidden=st.integers(0, 10**18),
    price=st.decimals(0, 999_999, allow_nan=False, allow_infinity=False, places=6),
)
def test_f41_the_cost_of_a_month_is_the_model_s(unexplained: int, hidden: int, price: object) -> None:
    """Bytes times price, whatever the month: no month is longer than another."""
    row = object.__new__(Reconcile)
    for name, value in (("unexplained_bytes", unexplained), ("hidden_bytes", hidden), ("price_per_gib_month", price)):
        object.__setattr__(row, name, value)
    model = Fraction(unexplained + hidden, 2**30) * Fraction(price)  # type: ignore[arg-type]
    assert row.cost_per_month is not None
    assert abs(Fraction(row.cost_per_month) - model) <= Fraction(1, 10**6)


def test_f41_no_statement_counts_in_days_of_some_time_zone() -> None:
    root = Path(simples3dms.__file__).parent
    found = [
        f"{path.relative_to(root)}: {match[0]}"
        for path in sorted(root.rglob("*.py"))
        if "revisions" not in path.parts
        for match in CALENDAR.finditer(path.read_text())
    ]
    assert found == [], "say it in hours or seconds"


def _days_over_a_change() -> int:
    """The fewest days from now on between whose ends Vienna's clocks are changed, once."""
    now = datetime.now(UTC)
    offset = now.astimezone(VIENNA).utcoffset()
    return next(days for days in range(2, 366) if (now + timedelta(days=days)).astimezone(VIENNA).utcoffset() != offset)


@pytest.mark.anyio
async def test_f41_a_retention_is_as_long_as_it_says_whatever_the_database_s_time_zone(
    settings: Settings, cluster: Cluster
) -> None:
    assert settings.database_url is not None
    name = psycopg.conninfo.conninfo_to_dict(settings.database_url.get_secret_value())["dbname"]
    with psycopg.connect(cluster.server.superuser_dsn("postgres"), autocommit=True) as connection:
        statement = sql.SQL("ALTER DATABASE {} SET timezone = {}")
        connection.execute(statement.format(sql.Identifier(str(name)), sql.Literal(VIENNA.key)))
    services = build_services(settings)
    await services.open()
    try:
        days, place = _days_over_a_change(), await make_place(services)
        await services.tenants.change_settings(
            HOST, place.tenant_id, {"retention_days": days, "retention_mode": "governance"}
        )
        document = (await place.upload(b"kept")).document
        async with services.database.tenant(place.tenant_id) as uow:
            kept = await uow.scalar(
                "SELECT extract(epoch FROM retain_until - created_at) FROM documents WHERE id = %s", [document.id]
            )
        assert kept == days * 86_400
    finally:
        await services.close()
