"""Faults that are planted into the program to see that its tests find them: a plug-in for a test run of its own.

`pytest -p tests.mutants.planted --mutant NAME` changes a module's text while it is loaded. A text that is not there any
more is an error, not a fault that was missed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Final

import pytest


@dataclass(frozen=True)
class Mutant:
    """What is changed (by module: old and new text), and the test that is there for it. It must fail, and the state
    machine too."""

    changes: Mapping[str, tuple[tuple[str, str], ...]]
    killer: str

    def apply(self, module: str, text: str) -> str:
        for old, new in self.changes[module]:
            if old not in text:
                raise AssertionError(f"{module} has no {old!r}: plant the mutant anew")
            text = text.replace(old, new)
        return text


_STORAGE: Final = "simples3dms.storage"
_LOCKED: Final = ("AND id = %s FOR UPDATE", "AND id = %s")
_CHECK: Final = "WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);\nCREATE POLICY plat"
#: Writes by a connection of its own, which has committed before the act has.
_APART: Final = """info = uow.connection.info
    other = await type(uow.connection).connect(info.dsn, password=info.password, autocommit=True)
    await other.execute("SET ROLE simples3dms_platform")
    await other"""
#: The nine of facts/reliability.md b.1.
MUTANTS: Final = {
    "no_hash_check_on_copy": Mutant(
        {
            f"{_STORAGE}.transfers.engine": (
                ("Expected(blob.size_bytes, blob.digest), None", "Expected(blob.size_bytes, None), None"),
                ("expected = Expected(blob.size_bytes, blob.digest)", "expected = Expected(blob.size_bytes, None)"),
            ),
            f"{_STORAGE}.transfers.proving": (
                ("Expected(blob.size_bytes, blob.digest)", "Expected(blob.size_bytes, None)"),
            ),
        },
        "tests/storage/test_last_guards.py::test_bytes_of_the_right_length_that_are_wrong_never_become_a_copy",
    ),
    "purge_without_fence": Mutant(
        {
            f"{_STORAGE}.blobs.repository": (("r.fence = i.fence AND r.state = 'retiring'", "i.fence > 0"),),
            f"{_STORAGE}.blobs.removing": (("permitted = await recheck()", "permitted = {one.id for one in items}"),),
        },
        "tests/storage/test_last_guards.py::test_a_removal_that_froze_does_not_take_what_was_taken_back_since",
    ),
    "cut_over_without_compare_and_set": Mutant(
        {
            f"{_STORAGE}.placement.repository": (
                ("WHERE placements.version = EXCLUDED.version - 1", "WHERE true"),
                ("FROM placements WHERE tenant_id = %s FOR UPDATE", "FROM placements WHERE tenant_id = %s"),
                ("reason) VALUES (%s, %s, %s, %s)", "reason) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"),
            ),
            f"{_STORAGE}.migrations.repository": (_LOCKED,),
        },
        "tests/storage/test_migrations.py::test_f56_twenty_cut_overs_at_once_turn_once",
    ),
    "quota_read_then_write": Mutant(
        {"simples3dms.documents.repository": (("'usage:' || %s", "gen_random_uuid()::text || %s"),)},
        "tests/tenants/test_settings.py::test_limits_hold_under_any_number_of_uploads",
    ),
    "finish_without_fence": Mutant(
        {
            f"{_STORAGE}.blobs.repository": (
                ("AND fence = %(fence)s AND state = 'writing'", "AND %(fence)s::bigint > 0"),
                ("r.fence = i.fence AND r.state = 'writing'", "i.fence > 0"),
            )
        },
        "tests/storage/test_migrations.py::test_f08_a_zombie_writer_changes_nothing",
    ),
    "audit_outside_the_transaction": Mutant(
        {
            "simples3dms.audit.repository": (
                (
                    '"""Add an event; the database\'s clock says when."""\n    await uow',
                    _APART,
                ),
            )
        },
        "tests/audit/test_audit.py::test_an_event_goes_with_the_change_that_is_undone",
    ),
    "retry_reuses_a_partial_stream": Mutant(
        {
            "simples3dms.providers.layers.retry": (
                (
                    "return await self.inner.put(key, body, expected=expected, content_type=content_type)",
                    "return await self._repeat(lambda: self.inner.put(key, body, expected=expected))",
                ),
            )
        },
        "tests/providers/test_repeats.py::test_what_is_left_of_a_stream_is_never_sent_as_the_whole",
    ),
    "policy_without_check": Mutant(
        {"simples3dms.revisions.versions.r0001_first_path": ((_CHECK, "WITH CHECK (true);\nCREATE POLICY plat"),)},
        "tests/db/test_isolation.py::test_s06_the_catalogue_has_nothing_to_complain_of",
    ),
    "redaction_off": Mutant(
        {"simples3dms.telemetry.redaction": (("for shape in _SHAPES:", "for shape in _SHAPES[:0]:"),)},
        "tests/telemetry/test_logging.py::test_s42_a_secret_is_known_by_its_shape",
    ),
}


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        """Never from the cache of compiled files."""
        text = self._mutant.apply(fullname, self.get_data(self.path).decode())
        return compile(text, self.path, "exec", dont_inherit=True)


class _Planter(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._mutant.changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._mutant)
        return spec


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", choices=sorted(MUTANTS))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before anything of the program is imported."""
    mutant = MUTANTS[early_config.known_args_namespace.mutant]
    assert not mutant.changes.keys() & sys.modules.keys()
    sys.meta_path.insert(0, _Planter(mutant))
