"""The hours in which workers may move bytes, against a clock that is read minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simples3dms.storage.migrations.windows import DAYS, Window, WindowInvalid, is_open, next_opening, parse

VIENNA, NEW_YORK = ZoneInfo("Europe/Vienna"), ZoneInfo("America/New_York")
#: Clocks that are put forward and back by an hour, by half an hour, at midnight, and not at all.
ZONES = [VIENNA, NEW_YORK, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Beirut"), ZoneInfo("Asia/Kolkata")]
windows = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sampled_from(ZONES),
)
#: Around the days of 2026 on which clocks are changed.
moments = st.sampled_from(["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"]).flatmap(
    lambda day: st.integers(-2 * 1440, 1440).map(
        lambda minutes: datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=minutes)
    )
)


def on(days: str, opens: str, closes: str, zone: ZoneInfo = VIENNA) -> Window:
    return parse({"days": days.split(), "opens": opens, "closes": closes, "zone": zone.key})


@given(st.lists(windows, min_size=1, max_size=3), moments)
@example([on("sun", "02:15", "03:15")], datetime(2026, 3, 29, 0, 0, tzinfo=UTC))
@example([on("sun", "01:00", "02:30")], datetime(2026, 10, 25, 0, 40, tzinfo=UTC))
def test_the_next_opening_is_the_first_minute_that_is_open(some: list[Window], at: datetime) -> None:
    found = next_opening(some, at)
    if is_open(some, at):
        assert found is None
        return
    assert found is not None
    assert found > at
    assert is_open(some, found)
    steps = int((found - at).total_seconds() // 60)
    assert not any(is_open(some, at + timedelta(minutes=minute)) for minute in range(steps))
    assert not is_open(some, found - timedelta(seconds=1))


@given(windows, moments)
def test_it_is_open_while_the_wall_shows_it(window: Window, at: datetime) -> None:
    """Said another way: the window's minutes of a day, counted on from its opening, over midnight."""
    wall = at.astimezone(window.zone)
    minute = wall.hour * 60 + wall.minute
    length = (window.closes - window.opens) % 1440 or 1440
    shown = {(day * 1440 + window.opens + ahead) % 10_080 for day in window.days for ahead in range(length)}
    assert is_open([window], at) == (wall.weekday() * 1440 + minute in shown)


def test_without_windows_it_is_always_open() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert is_open([], at)
    assert next_opening([], at) is None


def test_over_midnight_it_belongs_to_the_day_on_which_it_opens() -> None:
    window = on("fri", "22:00", "06:00")
    assert is_open([window], datetime(2026, 7, 4, 5, 59, tzinfo=VIENNA))
    assert not is_open([window], datetime(2026, 7, 4, 6, 0, tzinfo=VIENNA))
    assert not is_open([window], datetime(2026, 7, 3, 5, 0, tzinfo=VIENNA))
    assert next_opening([window], datetime(2026, 7, 4, 6, 0, tzinfo=VIENNA)) == datetime(2026, 7, 10, 20, tzinfo=UTC)


def test_a_window_that_the_clock_skips_opens_a_week_later() -> None:
    at = datetime(2026, 3, 29, 0, 30, tzinfo=VIENNA)
    assert next_opening([on("sun", "02:15", "02:45")], at) == datetime(2026, 4, 5, 2, 15, tzinfo=VIENNA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": []},
        {"days": ["someday"]},
        {"opens": "24:00"},
        {"closes": "6:00"},
        {"zone": "Europe/Nowhere"},
        {"zone": "../etc/passwd"},
        {"zone": "Europe"},
        {"zone": ""},
    ],
)
def test_what_is_no_window_is_refused(wrong: dict[str, object]) -> None:
    right = {"days": list(DAYS), "opens": "22:00", "closes": "06:00", "zone": "Europe/Vienna"}
    parse(right)
    with pytest.raises(WindowInvalid):
        parse(right | wrong)
