"""Migrations, their states, and the chunks that their work is cut into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from simples3dms.storage.blobs.proofs import Proof, parse
from simples3dms.storage.placement.selections import Selection
from simples3dms.storage.placement.turns import Move
from simples3dms.storage.placement.values import Match, match_from

Phase = Literal["copy", "evacuate"]


class State(StrEnum):
    """The states of a migration (design, section 7)."""

    PLANNED = "planned"
    COPYING = "copying"
    READY = "ready"
    SOAKING = "soaking"
    FINALIZING = "finalizing"
    DONE = "done"
    PAUSED = "paused"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.ROLLED_BACK, State.CANCELLED})
#: States in which workers have something to do.
WORKING = frozenset({State.COPYING, State.FINALIZING, State.ROLLING_BACK})


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a migration does by itself, and when; each window a document as `windows.parse` takes it."""

    automatic_cutover: bool = False
    finalize_after_seconds: int | None = None
    windows: tuple[dict[str, Any], ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "automatic_cutover": self.automatic_cutover,
            "finalize_after_seconds": self.finalize_after_seconds,
            "windows": list(self.windows),
        }


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """A migration as recorded."""

    id: UUID
    tenant_id: UUID
    source_store_id: UUID
    target_store_id: UUID
    state: str
    resume_state: str | None
    automatic_cutover: bool
    plan: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    cut_over_at: datetime | None
    finished_at: datetime | None
    barrier_seq: int
    planned_seq: int
    proven_seq: int | None
    proof_loss_count: int
    copied_count: int
    copied_bytes: int
    total_count: int
    total_bytes: int
    error_code: str | None
    error_message: str | None
    fence: int
    target_was_copy: bool
    waivers_changed: int
    """Rises when a waiver is taken back: what a proof left out before counts again."""
    proof: str
    finalize_after_seconds: int | None
    finalize_at: datetime | None
    finalize_due: bool
    """By the database's clock, when the row was read."""
    windows: list[dict[str, Any]]
    read_at: datetime
    scope: dict[str, Any]
    """As `turns.scope` writes it down at the start; before, what was asked for."""
    phase_at: datetime | None

    @property
    def only(self) -> Match | None:
        return match_from(self.scope["only"]) if "only" in self.scope else None

    @property
    def move(self) -> Move:
        return Move(self.source_store_id, self.target_store_id, self.only)

    @property
    def copying(self) -> Selection:
        """What must have a proven replica at the target: what belongs at the source, and what lies there alone."""
        return self._selection(lambda one: one["source"], lone_store_id=self.source_store_id)

    @property
    def leaving(self) -> Selection:
        """What leaves the store that is emptied: a target that held copies before the start keeps those."""
        if self.leaving_store_id == self.target_store_id and self.target_was_copy:
            return self._selection(lambda one: one["source"] and not one["target"])
        return Selection(self.only, at=self.started_at)

    def _selection(self, is_in: Callable[[dict[str, bool]], bool], *, lone_store_id: UUID | None = None) -> Selection:
        rules = tuple((match_from(rule["match"]), is_in(rule)) for rule in self.scope.get("rules", []))
        return Selection(
            self.only,
            rules,
            is_in(self.scope.get("own", {"source": True, "target": self.target_was_copy})),
            self.started_at,
            lone_store_id,
        )

    @property
    def grade(self) -> Proof:
        """How well each copy is to be proven before the migration counts on it."""
        return parse(self.proof)

    @property
    def leaving_store_id(self) -> UUID:
        """The store that the evacuation empties: the source when finalizing, the target when rolling back."""
        state = self.resume_state or self.state
        return self.target_store_id if state == State.ROLLING_BACK else self.source_store_id

    @property
    def staying_store_id(self) -> UUID:
        """The store that every blob must be in before it leaves the other."""
        leaving = self.leaving_store_id
        return self.source_store_id if leaving == self.target_store_id else self.target_store_id


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """What the records say of one blob, for a report. Of a source that was emptied, the key is the one it had there."""

    seq: int
    blob_id: UUID
    size_bytes: int
    digest: bytes
    documents: list[dict[str, Any]]
    source_key: str | None
    source_state: str | None
    target_key: str | None
    target_state: str | None
    evidence: str | None
    evidence_at: datetime | None
    waived_reason: str | None
    waived_at: datetime | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of the catalogue by creation sequence, both ends included, claimed by one worker."""

    phase: Phase
    low_seq: int
    high_seq: int
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class PendingChunk:
    """A chunk whose work nobody holds."""

    phase: Phase
    low_seq: int


@dataclass(frozen=True, slots=True)
class Range:
    """The next stretch of the catalogue to become a chunk."""

    high_seq: int | None
    blob_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CountPage:
    """One page of a count: how far it reaches (None: nothing left), and how much of it is in the part, and is not.

    Of the part, what lies at the source and at the target; and all at the source that leaves it.
    """

    last_seq: int | None
    blob_count: int
    size_bytes: int
    left_count: int
    left_bytes: int
    source_count: int
    source_bytes: int
    target_count: int
    target_bytes: int
    leaving_count: int
    leaving_bytes: int


@dataclass(frozen=True, slots=True)
class RemnantPage:
    """One page of a look at a store that is left: how far it reaches, and which blobs it still has of the part."""

    last_seq: int | None
    seqs: list[int]


@dataclass(frozen=True, slots=True)
class ProofPage:
    """One page of the proof: how far it reaches (None: nothing left), and what in it has no proven replica."""

    last_seq: int | None
    unproven: list[int]


@dataclass(frozen=True, slots=True)
class Hindrance:
    """A blob that holds a cut-over up, with one of the versions that it is.

    `state` is what the target has of it: `absent`, `writing`, `suspect`, `missing`, or `unverified` for a replica that
    was never read back.
    """

    document_id: UUID | None
    version: int | None
    state: str
    error: str | None


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration would move, and what stands in its way."""

    blob_count: int
    size_bytes: int
    blockers: tuple[str, ...] = ()
    moved_count: int | None = None
    """Of them, those that are not at the target yet; None, and no cost, in plans of earlier versions."""
    moved_bytes: int | None = None
    cost: dict[str, Any] | None = None
    """As `schemas.costs` reads it."""
    time: dict[str, Any] | None = None
    """As `pace` writes it down."""
    canary: dict[str, Any] | None = None
    """As `canary` writes it down; None: there was none."""
    probe_verdict: str | None = None
    """Of the target's last probe, and when that was."""
    probed_at: str | None = None
    left_count: int = 0
    """What stays where it is: a rule keeps it elsewhere, or it is none of the part."""
    left_bytes: int = 0
    is_exact: bool = True
    """Whether all was counted; of a very large catalogue only its older part is."""
    read_back_percent: int = 100
    """Of so many percent of the blobs the bytes are read at the target again, as the target was known when planned:
    where it vouches for no checksum, of all."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration in words, with its progress. The counts tell a person; only the records decide."""

    id: UUID
    source: str
    target: str
    only: Match | None
    """Of which blobs; None: of all that belong at the source."""
    state: str
    resume_state: str | None
    automatic_cutover: bool
    finalize_after_seconds: int | None
    finalize_at: datetime | None
    windows: list[dict[str, Any]]
    proof: str
    resting: bool
    opens_at: datetime | None
    plan: MigrationPlan
    copied_count: int
    copied_bytes: int
    total_count: int
    total_bytes: int
    pending_count: int
    failed_count: int
    waived_count: int
    proven: bool
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    cut_over_at: datetime | None
    finished_at: datetime | None
