"""The embedded server's life: made once, shared by processes, gone with the last of them, back after any kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from embedded_user import User, eventually

from simples3dms.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, ServerAddress
from simples3dms.db.embedded.files import MAX_LOG_BYTES
from simples3dms.db.embedded.locks import is_held


class Place:
    """A data directory that the server's user can reach (pytest's own are closed to it), and what goes on in it."""

    def __init__(self, base: Path) -> None:
        self.data_dir = base / "data"
        self.embedded_dir = base / "lib"
        self.home = self.data_dir / "postgres"

    def user(self) -> User:
        return User(self.data_dir, self.embedded_dir)

    def server(self, **options: object) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.data_dir, embedded_dir=self.embedded_dir, **{"fsync": False, **options})

    def postmaster(self) -> int:
        pid_file = self.home / "cluster" / "postmaster.pid"
        return int((pid_file.read_text().split() or ["0"])[0]) if pid_file.exists() else 0

    def keeper(self) -> int:
        return int(Path(f"/proc/{self.postmaster()}/stat").read_text().rpartition(")")[2].split()[1])

    def keepers(self) -> list[int]:
        """By command line, so that one that has no server yet is found too."""
        needle = f'{{"data_dir": "{self.data_dir}"'.encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if needle in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def is_quiet(self) -> bool:
        """Nothing of ours runs: neither the keeper nor any process of the server."""
        return not is_held(self.data_dir / "embedded" / "keeper.lock") and not is_held(self.home / "server.lock")


def _new_place() -> Iterator[Place]:
    base = Path(tempfile.mkdtemp(prefix="embedded-"))
    base.chmod(0o755)
    yield Place(base)
    shutil.rmtree(base)


def _end_quietly(place: Place) -> None:
    try:
        eventually(place.is_quiet)
    finally:
        for pid in place.keepers():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def empty_place() -> Iterator[Place]:
    """Where no database has been made."""
    for place in _new_place():
        yield place
        _end_quietly(place)


@pytest.fixture(scope="module")
def made() -> Iterator[Place]:
    for place in _new_place():
        with place.server():
            pass
        yield place


@pytest.fixture
def place(made: Place) -> Iterator[Place]:
    """Where a database has been made; the same for all tests, none of which may leave anything running."""
    yield made
    _end_quietly(made)


def test_a_new_database_is_made_and_taken_up_again(empty_place: Place) -> None:
    with (
        empty_place.server(fsync=True) as server,
        psycopg.connect(server.superuser_dsn(), autocommit=True) as connection,
    ):
        said = "SELECT lower('ÄÖÜẞ'), current_setting('data_checksums'), current_setting('fsync')"
        assert connection.execute(said).fetchone() == ("äöüß", "on", "on")
        assert connection.execute("SHOW max_connections").fetchone() == ("60",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'p@ss/w?rd'")
    assert empty_place.is_quiet(), "stop() waits for the end"
    with server:
        url = server.address.dsn("app", "p@ss/w?rd", "postgres")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("app",)
        made = sqlalchemy.make_url(url.replace("postgresql:", "postgresql+psycopg:"))
        engine = sqlalchemy.create_engine(made)
        with engine.connect() as other:
            assert other.scalar(sqlalchemy.text("SELECT to_regclass('kept')::text")) == "kept"
        engine.dispose()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.address.dsn("app", "wrong", "postgres"))


def test_the_second_start_is_quick(place: Place) -> None:
    began = time.monotonic()
    with place.server():
        started = time.monotonic()
    assert started - began < 3, "0.2 s on an idle machine"
    assert time.monotonic() - started < 3, "0.2 s on an idle machine"


def test_processes_share_one_server_until_the_last_leaves(empty_place: Place) -> None:
    first, second = (
        empty_place.user(),
        empty_place.user(),
    )  # at the same instant, on a directory that does not exist yet
    first.wait_until_up()
    second.wait_until_up()
    postmaster = empty_place.postmaster()
    first.sql("CREATE TABLE shared (n int)")
    assert second.sql("SELECT count(*) FROM shared") == [[0]]
    assert len(empty_place.keepers()) == 1
    first.leave()
    assert second.sql("INSERT INTO shared VALUES (1) RETURNING n") == [[1]]
    with empty_place.user() as third:
        assert third.sql("SELECT n FROM shared") == [[1]]
        assert empty_place.postmaster() == postmaster
        second.leave()
        assert third.sql("SELECT n FROM shared") == [[1]]
    eventually(empty_place.is_quiet, within=5)


def test_leaving_and_arriving_at_once_always_ends_with_a_server(place: Place) -> None:
    for _ in range(2):
        leaving = place.server()
        leaving.start()
        arriving = place.user()
        leaving.stop()
        with arriving:
            assert arriving.sql("SELECT 1") == [[1]]


def test_a_killed_owner_leaves_nothing_behind_but_its_data(place: Place) -> None:
    with place.user() as user:
        user.sql("CREATE TABLE kept_1 AS SELECT 7 AS n")
        user.kill()
    eventually(place.is_quiet, within=10)
    with place.user() as user:
        assert user.sql("SELECT n FROM kept_1") == [[7]]


def test_a_forked_child_does_not_keep_the_server(place: Place) -> None:
    with place.user() as user:
        user.ask("fork", "20")
        user.kill()
        eventually(place.is_quiet, within=10)


def test_a_killed_server_comes_back_by_itself(place: Place) -> None:
    with place.user() as user:
        user.sql("CREATE TABLE kept_2 AS SELECT 7 AS n")
        killed = place.postmaster()
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: user.sql("SELECT n FROM kept_2") == [[7]], within=15)
        assert place.postmaster() != killed


def test_a_server_told_to_stop_while_in_use_comes_back(place: Place) -> None:
    with place.server() as server, psycopg.connect(server.superuser_dsn()):  # this client makes a smart stop hang
        told = place.postmaster()
        os.kill(told, signal.SIGTERM)
        eventually(lambda: place.postmaster() not in (0, told), within=20)
        server.ensure_running()


def test_a_killed_keeper_takes_the_server_along_and_is_replaced(place: Place) -> None:
    with place.user() as user:
        user.sql("CREATE TABLE kept_3 AS SELECT 7 AS n")
        keeper, postmaster = place.keeper(), place.postmaster()
        os.kill(keeper, signal.SIGKILL)
        assert user.ask("ensure") is None
        assert user.sql("SELECT n FROM kept_3") == [[7]]
        assert place.postmaster() != postmaster
        os.kill(place.keeper(), signal.SIGKILL)
        eventually(lambda: user.sql("SELECT n FROM kept_3") == [[7]], within=15)  # the watcher thread, unasked


def test_keeper_and_users_killed_together_leave_no_server(place: Place) -> None:
    with place.user() as user:
        keeper = place.keeper()
        os.kill(user.process.pid, signal.SIGSTOP)  # so that it can't answer the loss of the keeper
        os.kill(keeper, signal.SIGKILL)
        user.kill()
    eventually(place.is_quiet, within=10)


@pytest.mark.parametrize("also_user", [True, False])
def test_a_crash_while_the_database_is_made_leaves_no_half_one(empty_place: Place, also_user: bool) -> None:
    user = empty_place.user()
    eventually(lambda: list(empty_place.home.glob("cluster.draft-*/base")))
    keeper = empty_place.keepers()[0]
    if also_user:
        user.kill()
    os.killpg(keeper, signal.SIGKILL)
    assert not (empty_place.home / "cluster").exists()
    if not also_user:
        assert "keeper failed" in user._hear()
        user.leave()
    with empty_place.user() as user:
        assert user.sql("SELECT 1") == [[1]]
        assert [path.name for path in empty_place.home.glob("cluster*")] == ["cluster"]


def test_a_stale_pid_file_does_not_block(place: Place) -> None:
    with place.server():
        pid_file = place.home / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    zombie = subprocess.Popen(["true"])
    eventually(lambda: Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    for pid in (zombie.pid, os.getpid()):  # never reaped, and reused by somebody who has nothing to do with it
        pid_file.write_text("\n".join([str(pid), *lines[1:]]))
        with place.server() as server:
            psycopg.connect(server.superuser_dsn()).close()
    zombie.wait()


def test_somebody_elses_server_is_not_disturbed(place: Place) -> None:
    with place.server():
        pid_file = place.home / "cluster" / "postmaster.pid"
        text = pid_file.read_text()
    other = subprocess.Popen(["sleep", "60"], cwd=place.home / "cluster")
    pid_file.write_text("\n".join([str(other.pid), *text.splitlines()[1:]]))
    with pytest.raises(EmbeddedPostgresError, match=f"process {other.pid}, runs on"):
        place.server().start()
    assert pid_file.exists()
    other.kill()
    other.wait()


def test_a_server_that_can_not_start_says_why(place: Place) -> None:
    with pytest.raises(EmbeddedPostgresError, match="invalid value for parameter") as caught:
        place.server(extra_conf={"work_mem": "much"}).start()
    assert "work_mem" in str(caught.value.extra["log_tail"])
    with place.server(extra_conf={"work_mem": "3MB"}) as server, psycopg.connect(server.superuser_dsn()) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("3MB",)


def test_a_lost_password_is_said(place: Place) -> None:
    password = place.data_dir / "embedded" / "superuser.password"
    text = password.read_text()
    password.write_text("wrong")
    with pytest.raises(EmbeddedPostgresError, match="another password"):
        place.server().start()
    password.unlink()
    with pytest.raises(EmbeddedPostgresError, match="is gone: restore it"):
        place.server().start()
    password.write_text(text)
    with place.server():
        pass


def test_the_log_is_bounded(empty_place: Place) -> None:
    log = empty_place.data_dir / "embedded" / "postgres.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    with empty_place.server():
        assert log.stat().st_size < 10_000
    assert log.with_name("postgres.log.1").stat().st_size == MAX_LOG_BYTES + 1


def test_an_address_quotes_what_it_is_given() -> None:
    dsn = ServerAddress("/a dir/with?", 5432, Path("/bin")).dsn("us@r", "p:/?#w", "d/b")
    meant = {"host": "/a dir/with?", "port": "5432", "user": "us@r", "password": "p:/?#w", "dbname": "d/b"}
    assert psycopg.conninfo.conninfo_to_dict(dsn) == meant


def test_an_address_before_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="not started"):
        EmbeddedPostgres(tmp_path).superuser_dsn()
