"""The probe: whether a live store keeps the promises that our work with it rests on, as a table for a person.

It runs a choice of the conformance suite and what the kind itself can find out, below a scratch prefix that is always
removed. Red: the store must not be used. Amber: it works, with a cost that is named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simples3dms.kit.ids import new_id
from simples3dms.providers.base import Finding, StorageProvider
from simples3dms.providers.conformance import BEHAVIOURS, run_behaviour
from simples3dms.providers.conformance.harness import STRAIGHT_OUT, clean_up
from simples3dms.providers.registry import BuildOptions

#: Behaviour -> the row's name and meaning. All of them are promises that documents rest on: failing one is red.
_ROWS: Final[dict[str, tuple[str, str]]] = {
    "put_small": ("write and read", "What is written reads back byte for byte, whatever the service does on the way."),
    "put_text_that_looks_encoded": ("unchanged", "Bytes that look like framing or compression stay as they are."),
    "stream_large_of_unknown_size": ("large objects", "Objects of several parts of one size are whole."),
    "too_short_small": ("all or nothing", "A write that turns out wrong leaves nothing."),
    "range_in_the_middle": ("parts of objects", "A part of an object reads as that part."),
    "missing_object": ("missing objects", "What is not there is said to be not there."),
    "list_what_was_just_written": ("listing", "What was written is listed at once, what was deleted is not."),
    "delete_all_versions": ("no hidden versions", "A delete leaves nothing hidden that would be billed."),
    "delete_spares_the_neighbours": ("deleting", "A delete takes what it should and nothing else."),
    "a_hold_keeps": ("holds", "What is held at the store can't be deleted there, and goes once it is released."),
    "unfinished_uploads_are_listed": ("unfinished uploads", "What was begun and never finished can be found."),
    "head_tells_the_time": ("time", "The store's clock and ours agree within a quarter of an hour."),
}
#: Rows whose failure has a way around, at a cost.
_AMBER: Final = {
    "list_what_was_just_written": "its listing is behind: what looks missing or left over may not be",
    "unfinished_uploads_are_listed": "let the bucket's own lifecycle rule remove them after a few days",
    "signed_download": "downloads pass through this server",
}
_SIGNED: Final = ("signed_download", "signed downloads", "A signed request serves a download with our type and name.")


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """All rows, worst first in meaning and in the order they were found."""

    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        verdicts = {finding.verdict for finding in self.findings}
        return next((one for one in ("red", "amber") if one in verdicts), "green")

    @property
    def reds(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == "red"]


async def run_probe(store: StorageProvider, options: BuildOptions = STRAIGHT_OUT) -> ProbeReport:
    """Probe a store, which may be in use. Raises ProviderError if it can't be reached or signed in to at all.

    `options`: what the store was built with, so that signed requests go out the same way.
    """
    await store.check()
    findings = [Finding("access", "green", "Endpoint, credential and bucket work.")]
    rows = {**_ROWS, _SIGNED[0]: _SIGNED[1:]}
    for behaviour in BEHAVIOURS:
        if behaviour.name not in rows:
            continue
        name, meaning = rows[behaviour.name]
        outcome = await run_behaviour(store, behaviour, options)
        if outcome.verdict == "failed":
            way_around = _AMBER.get(behaviour.name)
            detail = f"{outcome.detail}: {way_around}" if way_around else outcome.detail
            findings.append(Finding(name, "amber" if way_around else "red", meaning, detail))
        elif outcome.verdict == "ok":
            findings.append(Finding(name, "green", meaning))
    scratch = f"probe/{new_id()}/"
    try:
        findings += await store.inspect(scratch)
    finally:
        left = await asyncio.shield(clean_up(store, scratch))
    meaning = "The probe removes all that it wrote."
    findings.append(
        Finding("clean-up", "green", meaning) if left is None else Finding("clean-up", "red", meaning, left)
    )
    return ProbeReport(findings)
