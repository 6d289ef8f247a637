"""The rules of `rules.py`: each finds a breach that is planted for it, and none in the tree."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

import pytest
from tests.house import rules
from tests.house.rules import FILE_RULES, SOURCE_RULES, Module, Rule
from tests.house.tree import modules, source

from simples3dms.kit.failpoints import FAIL_POINTS

#: Small bodies are copied in one request and large ones are streamed: both ways pass these two.
TWO_WAYS = {"copy.source_open": 2, "copy.mid_stream": 2}

PLANTED: list[tuple[Rule, str, str]] = [
    (rules.commits_at_the_edge, "documents/service.py", "await uow.connection.commit()"),
    (rules.times_have_zones, "audit/service.py", "at = datetime.now()"),
    (rules.times_have_zones, "audit/service.py", "at = datetime.datetime.utcnow()"),
    (rules.times_have_zones, "audit/service.py", "at = datetime.fromtimestamp(12.5)"),
    (rules.times_have_zones, "audit/service.py", "day = date.today()"),
    (rules.bodies_are_streamed, "providers/kinds/local/provider.py", "data = file.read()"),
    (rules.bodies_are_streamed, "api/v1/documents.py", "data = await request.body()"),
    (rules.bodies_are_streamed, "storage/transfers/engine.py", "data = path.read_bytes()"),
    (rules.logs_hold_no_secrets, "storage/stores/engine.py", "log.info('store.added', key=secret_access_key)"),
    (rules.logs_hold_no_secrets, "storage/stores/engine.py", "log.warning('x', where=f'{presigned_url}')"),
    (rules.logs_hold_no_secrets, "identity/service.py", "log.info('login', password='x')"),
    (rules.logs_hold_no_secrets, "identity/service.py", "log.info('login', value=made.reveal())"),
    (rules.settings_stay_at_the_edges, "documents/service.py", "from simples3dms.settings import Settings"),
    (rules.settings_stay_at_the_edges, "storage/blobs/engine.py", "from simples3dms import settings"),
    (rules.settings_stay_at_the_edges, "providers/kinds/s3/config.py", "key = os.environ['AWS_ACCESS_KEY_ID']"),
    (rules.sql_is_in_repositories, "documents/service.py", "await uow.scalar('SELECT 1')"),
    (rules.nothing_is_pretended, "providers/kinds/memory.py", "raise NotImplementedError"),
    (rules.nothing_is_pretended, "providers/kinds/memory.py", "raise NotImplementedError('later')"),
    (rules.nothing_is_unpickled, "jobs/tasks.py", "import pickle"),
    (rules.nothing_is_unpickled, "jobs/tasks.py", "from marshal import loads"),
    (rules.nothing_is_unpickled, "settings.py", "yaml.load(text)"),
    (rules.nothing_is_unpickled, "settings.py", "eval(text)"),
    (rules.modules_say_what_they_are_for, "kit/ids.py", "x = 1"),
    (rules.files_are_short, "kit/ids.py", "x = 1\n" * (rules.LONGEST_FILE + 1)),
]
ALLOWED: list[tuple[Rule, str, str]] = [
    (rules.commits_at_the_edge, "db/session.py", "connection.commit()"),
    (rules.times_have_zones, "audit/service.py", "at = datetime.now(UTC); b = datetime.fromtimestamp(1, tz=UTC)"),
    (rules.bodies_are_streamed, "providers/kinds/local/provider.py", "data = file.read(1 << 20)"),
    (rules.logs_hold_no_secrets, "identity/service.py", "log.info('token.revoked', user=str(user_id))"),
    (rules.settings_stay_at_the_edges, "cli/host.py", "from simples3dms.settings import Settings"),
    (rules.sql_is_in_repositories, "documents/repository.py", "await uow.scalar('SELECT 1')"),
]


def _module(path: str, text: str) -> Module:
    return Module(PurePosixPath("src/simples3dms") / path, text)


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_breach_is_found(rule: Rule, path: str, text: str) -> None:
    assert list(rule(_module(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_right_is_left_alone(rule: Rule, path: str, text: str) -> None:
    assert list(rule(_module(path, text))) == []


def test_every_rule_has_been_seen_red() -> None:
    assert {rule for rule, _, _ in PLANTED} == {*SOURCE_RULES, *FILE_RULES}


def test_s53_nothing_that_runs_code_is_ever_read() -> None:
    assert [finding for module in modules() for finding in rules.nothing_is_unpickled(module)] == []


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Rule) -> None:
    assert [finding for module in source() for finding in rule(module)] == []


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps(rule: Rule) -> None:
    assert [finding for module in modules() for finding in rule(module)] == []


def test_every_fail_point_stands_at_one_place() -> None:
    used = Counter(name for module in source() for name, _ in rules.fail_points_of(module))
    assert used == {name: TWO_WAYS.get(name, 1) for name in FAIL_POINTS}


def test_fail_points_are_found_by_name() -> None:
    module = _module("documents/uploads.py", "async def f():\n    await fp('upload.reserved')\n    await fp(name)")
    assert list(rules.fail_points_of(module)) == [("upload.reserved", 2), ("?", 3)]
