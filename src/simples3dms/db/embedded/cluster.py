"""The database cluster on disk: made once and whole, and started only when no process of it is left."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from simples3dms.db.embedded.accounts import Account, Home
from simples3dms.db.embedded.binaries import Installation
from simples3dms.db.embedded.errors import EmbeddedPostgresError, from_log
from simples3dms.db.embedded.files import Log, find_text, sync_directory
from simples3dms.db.embedded.processes import is_living_in, spawn

SUPERUSER = "postgres"
PORT = 5432
#: `sockaddr_un.sun_path` holds 108 bytes with the closing NUL.
_MAX_SOCKET_PATH = 107
_FIRST_VERSION_WITH_BUILTIN_LOCALE = 17
_CONF = """
# Written once by SimpleS3DMS, when it made this cluster. Yours to change from here on.
max_connections = 60
shared_buffers = 64MB
timezone = 'UTC'
log_timezone = 'UTC'
"""
#: For tests. Commits still wait for the write to the system, so a killed server loses nothing; only a power cut hurts.
_FAST = {"fsync": "off", "full_page_writes": "off"}


def find_major(home: Path) -> int | None:
    """The PostgreSQL version of the cluster in `home`, or None if there is no cluster yet."""
    text = find_text(home / "cluster" / "PG_VERSION")
    return int(text) if text else None


def make_cluster(
    home: Home, installation: Installation, password: str, log: Log, *, server_lock: int, fsync: bool
) -> None:
    """Make the cluster beside its place and rename it: a crash leaves a draft, which the next attempt deletes."""
    for left in home.path.glob("cluster.draft-*"):
        shutil.rmtree(left, ignore_errors=True)
    draft = home.path / f"cluster.draft-{secrets.token_hex(4)}"
    password_file = _password_file(home, password)
    try:
        command: list[str | Path] = [
            installation.bin_dir / "initdb",
            *_initdb_options(draft, password_file, installation.major),
            *([] if fsync else ["--no-sync"]),
        ]
        process = spawn(
            command,
            account=home.account,
            output=log.descriptor,
            death_signal=signal.SIGKILL,
            keep_open=(server_lock,),  # a new attempt waits until all of this one is gone
        )
        if process.wait() != 0:
            raise from_log("The database could not be made.", log.tail(), home.path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        password_file.unlink(missing_ok=True)
    _append_conf(draft / "postgresql.conf")
    draft.rename(home.path / "cluster")
    sync_directory(home.path)


def _initdb_options(draft: Path, password_file: Path, major: int) -> list[str]:
    options = [f"--pgdata={draft}", f"--username={SUPERUSER}", f"--pwfile={password_file}"]
    options += ["--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--no-instructions"]
    if major >= _FIRST_VERSION_WITH_BUILTIN_LOCALE:
        return [*options, "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [*options, "--locale=C.UTF-8"]


def _password_file(home: Home, password: str) -> Path:
    """For initdb only, which runs as the server's user and reads a file."""
    descriptor, name = tempfile.mkstemp(prefix="password-", dir=home.path)
    with open(descriptor, "w", encoding="utf-8") as file:
        if home.account is not None:
            os.fchown(descriptor, home.account.uid, home.account.gid)
        file.write(password)
    return Path(name)


def _append_conf(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(_CONF)
        file.flush()
        os.fsync(descriptor)


def ensure_socket_dir(home: Home) -> Path:
    """`<home>/run`, or a short path below /tmp where the socket's would be longer than the system allows."""
    path = home.path / "run"
    if len(os.fsencode(path / f".s.PGSQL.{PORT}")) > _MAX_SOCKET_PATH:
        path = Path("/tmp") / f"simples3dms-{hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]}"  # noqa: S108
    owner = home.account or Account(os.geteuid(), os.getegid())
    try:
        path.mkdir(mode=0o700)
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    except FileExistsError:
        status = path.lstat()
        if not path.is_dir() or path.is_symlink() or status.st_uid != owner.uid or status.st_mode & 0o022:
            raise EmbeddedPostgresError(f"{path} is not the embedded server's own directory: delete it.") from None
    return path


def server_command(
    home: Path, installation: Installation, socket_dir: Path, *, fsync: bool, extra_conf: Mapping[str, str]
) -> list[str | Path]:
    """The server's command line: what must be so whatever postgresql.conf says, then what a test asked for."""
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(socket_dir),
        "unix_socket_permissions": "0700",
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_line_prefix": "%m [%p] ",
        **({} if fsync else _FAST),
        **extra_conf,
    }
    command: list[str | Path] = [installation.bin_dir / "postgres", "-D", home / "cluster"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command


def remove_leftovers(cluster: Path, socket_dir: Path) -> None:
    """Delete what a killed server left and what would stop the next one; the caller holds `server.lock`.

    PostgreSQL itself believes that process ids are not reused and that the dead are reaped, and would refuse for ever.
    """
    pid = find_postmaster(cluster)
    if pid is not None and is_living_in(pid, cluster):
        raise EmbeddedPostgresError(f"Somebody else's PostgreSQL server, process {pid}, runs on {cluster}: stop it.")
    for path in (cluster / "postmaster.pid", *socket_dir.glob(".s.PGSQL.*")):
        path.unlink(missing_ok=True)


def find_postmaster(cluster: Path) -> int | None:
    """The process id in postmaster.pid: of the server that runs, or that once ran."""
    lines = _pid_file(cluster)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def find_status(cluster: Path, pid: int) -> str:
    """What the server with this process id says of itself: `starting`, `ready`, `stopping`, or nothing yet."""
    lines = _pid_file(cluster)
    if len(lines) < 8 or lines[0].strip() != str(pid):
        return ""
    return lines[7].strip()


def _pid_file(cluster: Path) -> list[str]:
    return (find_text(cluster / "postmaster.pid") or "").splitlines()
