"""How estimates of cost are printed: amounts with their currency, and what is not known said so."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from simples3dms.cli.output import console, plain, size
from simples3dms.schemas.costs import Cost, CostLine, CostSide
from simples3dms.schemas.migrations import Canary, MigrationPlan, Time

_CENT: Final = Decimal("0.01")
_BASES: Final = {
    "between_stores": "as lately between these stores",
    "to_store": "as lately from others to this store",
    "canary": "from one copy at a time to as many as a worker makes, as the canary measured",
    "none": "as nothing bounds it",
}
_NAMES: Final = {
    "read": "reading at {}",
    "read_calls": "calls that read at {}",
    "write_calls": "calls that write to {}",
    "read_back": "reading back at {}",
    "read_back_calls": "calls that read back at {}",
    "both_stored": "keeping {} for the way back",
    "early_delete": "leaving {} early",
    "delete_calls": "calls that delete at {}",
    "stored": "storage at {}",
}


def show_plan(plan: MigrationPlan, *, in_full: bool) -> None:
    """What there is, and with `in_full` what a move would take."""
    at_least = "" if plan.is_exact else "at least "
    _show(f"  plan     {at_least}{plan.blob_count:,} blobs, {size(plan.size_bytes)}")
    if plan.left_count:
        _show(f"  stays    {at_least}{plan.left_count:,} blobs, {size(plan.left_bytes)}")
    if not in_full:
        return
    if plan.moved_count is not None:
        _show(f"  to move  {at_least}{plan.moved_count:,} blobs, {size(plan.moved_bytes or 0)}")
    if not plan.is_exact:
        _show("  counted  the older part of a very large catalogue: time and costs are of that, there is more")
    if plan.time is not None:
        _show(f"  time     {_time(plan.time)}")
    if plan.cost is not None:
        show_cost(plan.cost, in_full=True)
    if plan.probed_at is not None:
        _show(f"  probe    {plan.probe_verdict}, {plan.probed_at:%Y-%m-%d %H:%M} UTC")
    if plan.canary is not None:
        _show(f"  canary   {_canary(plan.canary)}")


def _canary(canary: Canary) -> str:
    if canary.error_message is not None:
        return f"failed: {plain(canary.error_message)}"
    steps = [(name, getattr(canary, f"{name}_seconds")) for name in ("write", "read", "delete")]
    calls = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in steps if seconds is not None)
    rates = (canary.write_bytes_per_second or 0, canary.read_bytes_per_second or 0)
    return f"well: {calls}; alone {size(rates[0])}/s written, {size(rates[1])}/s read back"


def _time(time: Time) -> str:
    least, most = (None if one is None else duration(one) for one in (time.least_seconds, time.most_seconds))
    if least is None or most is None:
        told = "nothing was copied to this store in the last 30 days, so nobody knows: plan with --canary"
        return told if least is None else f"at least {least}, by what the stores may be asked for; {told}"
    return f"{least if least == most else f'{least} to {most}'} of copying, {_BASES[time.basis]}"


def duration(seconds: float) -> str:
    """To two figures or so: it is an estimate."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}" if seconds >= 10 * unit else f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"


def show_cost(cost: Cost, *, in_full: bool) -> None:
    """Sums, or with `in_full` each line, and where the prices are from."""
    _show(f"  once     {_sum(cost.once)}")
    if in_full:
        for line in cost.once.lines:
            _show_line(line)
    _show(f"  a month  {_sum(cost.before)} before, {_sum(cost.after)} after")
    if in_full:
        for told in cost.price_lists:
            _show(f"  prices   {plain(told)}")


def show_moving(side: CostSide) -> None:
    """What it costs to move what a placement wants elsewhere."""
    if side.lines:
        _show(f"  moving   {_sum(side)}, if a migration moves what is absent")


def _show_line(line: CostLine) -> None:
    quantity = size(line.quantity) if line.unit == "bytes" else f"{line.quantity:,} calls"
    if line.least is None or line.most is None:
        told = "price not known"
    else:
        told = f"{_between(line.least, line.most)} {line.currency}"
    note = f" ({line.note})" if line.note else ""
    _show(f"    {_NAMES.get(line.name, line.name + ' {}').format(plain(line.store))}: {quantity}, {told}{note}")


def _sum(side: CostSide) -> str:
    told = [f"{_between(one.least, one.most)} {one.currency}" for one in side.amounts]
    if side.unknown_count:
        told.append(f"{side.unknown_count} {'line' if side.unknown_count == 1 else 'lines'} not known")
    return " and ".join(told) or "nothing"


def _between(least: Decimal, most: Decimal) -> str:
    first, last = _spelled(least), _spelled(most)
    return last if first == last else f"{first} to {last}"


def _spelled(amount: Decimal) -> str:
    """To the cent; what is less than one is not called nothing."""
    if 0 < amount < _CENT:
        return "less than 0.01"
    return f"{amount:,.2f}"


def _show(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False)
