"""The faults and attacks that the product promises to stand, and the tests whose names bear their numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
_TEST: Final = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
_ROW: Final = re.compile(r"_((?:s|f)\d\d|mode_\d+)(?=_)")

#: Attacks. What each tries, in a line.
ATTACKS: Final[Mapping[str, str]] = {
    "s01": "Another tenant's ids, in every place where an id can stand",
    "s02": "One foreign item among one's own, in operations on several",
    "s03": "What is derived from another's document: versions, places, events",
    "s04": "Fields that nobody asked for",
    "s05": "Operations above one's role, and other spellings of a request",
    "s06": "A table, view, function, role or policy that lets rows through",
    "s07": "A unit of work without a tenant, and connections that were used before",
    "s08": "Statements in the place of values",
    "s09": "Collisions, references and times that tell of another's rows",
    "s10": "Guessing passwords: one account, many accounts, many addresses, all at once",
    "s11": "Finding out who has an account",
    "s12": "A session that was there before the sign-in",
    "s13": "A session that outlives its time, its user or its sign-out",
    "s14": "Tokens: stolen rows, old ones, revoked ones, ones that mint more than they hold",
    "s15": "Requests that another site makes a browser send",
    "s16": "Other origins",
    "s17": "Answers without their headers",
    "s34": "Endpoints inside our own network, however they are written",
    "s35": "Names that lead to one address when asked and to another when connected to",
    "s36": "Redirects and realms that lead elsewhere",
    "s37": "The host's own identity, used for a tenant's store",
    "s38": "A store that answers without end, with bombs, or with others' keys",
    "s39": "Getting a secret back out, or sent to another endpoint",
    "s40": "Sealed values that were changed, moved, cut or replayed",
    "s41": "Rotation that loses a key too early",
    "s42": "Secrets in logs, rows, files and answers",
    "s43": "Lines of the log that somebody else writes",
    "s44": "Changing the audit",
    "s45": "Acts without an event, and events without an act",
    "s49": "Headers that only a proxy may set",
    "s50": "Requests that two servers read in two ways",
    "s51": "Secrets out of examples",
    "s52": "The inside, served to anybody",
    "s53": "Formats that run code when they are read",
    "s54": "An archive that is hostile, or holds more than it should",
    "s55": "What is left of a tenant that was deleted",
    "s56": "Ways around a hold or a retention",
    "s57": "Rights that are taken away while they are used",
}
#: Faults of stores, of processes and of the network.
FAULTS: Final[Mapping[str, str]] = {
    "f01": "kill -9 of the API before the bytes are at a store",
    "f02": "kill -9 of the API after the bytes are at a store",
    "f03": "kill -9 of the API after the commit, before the answer",
    "f05": "Clients that send a byte now and then",
    "f06": "kill -9 of a worker during a copy; large copies go on from their last part",
    "f07": "kill -9 of a worker while a copy is confirmed",
    "f08": "A worker that was thought dead and wakes up",
    "f09": "kill -9 during the phases of a migration",
    "f10": "kill -9 during a cut-over",
    "f11": "kill -9 during a roll-back, and while a store is emptied after it or after a cut-over",
    "f12": "kill -9 at every step of a purge",
    "f13": "kill -9 at every step of a rotation and of a rewrap",
    "f18": "A commit that was sent and never answered",
    "f19": "The connection is killed while the end of a job is noted",
    "f23": "A store that fails once, several times, for ever",
    "f24": "A store that asks for a pause",
    "f25": "B2's own: a broken upload URL, an expired token, a cap",
    "f26": "A store that does not answer, or stops in the middle",
    "f27": "A slow store among fast ones",
    "f28": "Errors in a 200, missing tags, wrong ranges",
    "f29": "A body that is cut",
    "f30": "A body that is short and says so",
    "f31": "A bit that flips on the way",
    "f32": "A bit that flips at rest",
    "f33": "A bit that flips in every copy",
    "f34": "An object that was deleted behind our back",
    "f35": "An object that was replaced by another of its size",
    "f36": "A store of which much is bad at once",
    "f37": "Work that is delivered more than once, also at the same time",
    "f38": "Jobs that are lost",
    "f39": "Jobs that come in another order, or late",
    "f40": "One process with a wrong clock",
    "f41": "Clocks that are changed, leap days, ends of months",
    "f43": "A disk that is full, broken or read-only",
    "f44": "A store that can't be reached for a while, and what it is owed by then",
    "f45": "A worker that can't reach the database any more, but still the stores",
    "f46": "Everything cut off, and lines that lose a third of what goes over them",
    "f47": "A credential that is wrong, expired or revoked",
    "f48": "A credential that may do less than before",
    "f49": "A bucket that is gone",
    "f50": "Buckets that keep versions, or lock objects",
    "f51": "Two owners of one place",
    "f52": "A database that was put back from a backup",
    "f55": "A new version, a purge and a migration's steps at once on one document",
    "f56": "Several cut-overs at once",
    "f57": "Roll-back after writes and deletes",
    "f58": "A migration to where the documents are, or against another",
    "f59": "A cut-over while a copy at the target is unproven or in doubt",
    "f60": "Workers of two versions, on the schema of the newer one",
    "f61": "SIGTERM during a long copy",
    "f63": "People who read while documents are copied and scrubbed",
    "f64": "Notifications of the database that are lost",
    "f65": "Processes with different key rings",
}
#: What went wrong for users of comparable systems.
MODES: Final[Mapping[str, str]] = {
    "mode_4": "The source was deleted before the copy was proven",
    "mode_8": "An entity tag was taken for an MD5",
    "mode_9": "Checksum headers that the service does not know",
    "mode_10": "A checksum trailer inside the object",
    "mode_11": "A range compared with the checksum of the whole",
    "mode_12": "A signed upload for an empty body's checksum",
    "mode_13": "Parts of unequal size",
    "mode_14": "A listing that is held in memory, or never ends",
    "mode_15": "Uploads that can't be resumed",
    "mode_16": "A broken upload URL that was waited for instead of replaced",
    "mode_17": "A cap that was tried again and again",
    "mode_18": "A throttled account that was pressed on",
    "mode_19": "Hidden versions that pile up",
    "mode_20": "SHA-1 that is missing or not verified",
    "mode_21": "Two interfaces of one store that disagree",
}


def named_tests() -> dict[str, list[str]]:
    """Row -> the tests that bear its number, as `file::name`, sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in _TEST.findall(path.read_text()):
            for row in _ROW.findall(name.removeprefix("test")):
                found.setdefault(row, []).append(f"{path.relative_to(ROOT)}::{name}")
    return found
