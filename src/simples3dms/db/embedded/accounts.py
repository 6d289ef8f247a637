"""Which user runs the server, and where its files go: PostgreSQL refuses to run as root.

Nobody's directory is ever loosened for it. Where the server's user can't reach the data directory, the cluster goes
below `/var/lib/simples3dms` (or where the operator says) and the data directory keeps a pointer to it.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

from simples3dms.db.embedded.errors import EmbeddedPostgresError
from simples3dms.db.embedded.files import ControlFiles, find_text, sync_directory, write_file

DEFAULT_EMBEDDED_DIR = Path("/var/lib/simples3dms")
OWN_ACCOUNT = "simples3dms"
_USEFUL_ACCOUNTS = (OWN_ACCOUNT, "postgres")


class Account(NamedTuple):
    uid: int
    gid: int


class Home(NamedTuple):
    """The directory of the cluster, and the user the server runs as (None: whoever we are, since we are not root)."""

    path: Path
    account: Account | None


def can_reach(path: Path, account: Account) -> bool:
    """Whether the mode bits let the user, without further groups, go through `path` and all above it."""
    return all(_may_pass(directory.stat(), account) for directory in (path, *path.parents))


def _may_pass(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def ensure_home(files: ControlFiles, embedded_dir: Path) -> Home:
    """The home recorded for this data directory, or a new one, recorded."""
    recorded = find_text(files.home)
    if recorded:
        path = files.data_dir / recorded
        if not path.is_dir():
            raise EmbeddedPostgresError(
                f"The database's directory {path} is gone: bring it back (is a disk not mounted?), "
                f"or delete {files.home} to begin with an empty database."
            )
        return Home(path, _account_of(path))
    home = _make_home(files, embedded_dir)
    inside = home.path.is_relative_to(files.data_dir)
    write_file(files.home, str(home.path.relative_to(files.data_dir) if inside else home.path))
    return home


def _account_of(home: Path) -> Account | None:
    status = home.stat()
    if os.geteuid() != 0:
        if status.st_uid != os.geteuid():
            raise EmbeddedPostgresError(f"{home} belongs to another user: run this as that user, or as root.")
        return None
    if status.st_uid == 0:
        raise EmbeddedPostgresError(
            f"{home} belongs to root, as whom PostgreSQL does not run: give it to a user with `chown -R`, or delete it."
        )
    return Account(status.st_uid, status.st_gid)


def _make_home(files: ControlFiles, embedded_dir: Path) -> Home:
    near = files.data_dir / "postgres"
    if near.exists():
        return Home(near, _account_of(near))
    if os.geteuid() != 0:
        near.mkdir(mode=0o700)
        return Home(near, None)
    account = _choose_account(files.data_dir)
    if can_reach(files.data_dir, account):
        _make_owned(near, account)
        return Home(near, account)
    ensure_public_directory(embedded_dir, account)
    path = _free_name(embedded_dir, files.data_dir)
    _make_owned(path, account)
    return Home(path, account)


def ensure_public_directory(path: Path, account: Account) -> None:
    """Make `path` for all to pass if it is not there; what is there stays as it is and must do."""
    if not path.exists():
        path.mkdir(parents=True)
        path.chmod(0o755)
    if not can_reach(path, account):
        raise EmbeddedPostgresError(
            f"The database's user can't reach {path}: set SIMPLES3DMS_EMBEDDED_DIR to a directory that all may pass."
        )


def _free_name(embedded_dir: Path, data_dir: Path) -> Path:
    """A name that stays the same for a data directory, or the next after one left by an earlier, deleted one."""
    label = re.sub(r"[^A-Za-z0-9]+", "-", data_dir.name)[:24].strip("-") or "data"
    stem = f"{label}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:10]}"
    path, number = embedded_dir / stem, 1
    while path.exists() and any(path.iterdir()):
        number += 1
        path = embedded_dir / f"{stem}-{number}"
    return path


def _make_owned(path: Path, account: Account) -> None:
    """Make a 0700 directory of that user; it appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700)
    os.chown(draft, account.uid, account.gid, follow_symlinks=False)
    draft.rename(path)
    sync_directory(path.parent)


def _choose_account(data_dir: Path) -> Account:
    """Root only: the data directory's own user, else one made for such servers, else a new one, else `nobody`."""
    owner = data_dir.stat().st_uid
    found = _find_account(owner) if owner else None
    for name in _USEFUL_ACCOUNTS:
        found = found or _find_account(name)
    return found or _add_account()


def _find_account(who: int | str) -> Account | None:
    try:
        entry = pwd.getpwnam(who) if isinstance(who, str) else pwd.getpwuid(who)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid) if entry.pw_uid else None


def _add_account() -> Account:
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        found = _find_account("nobody")
        if found is None:
            raise EmbeddedPostgresError(
                f"PostgreSQL does not run as root and there is no `useradd` here: add a user named {OWN_ACCOUNT}, "
                "or run this as a user that is not root."
            )
        return found
    command = [program, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", OWN_ACCOUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    found = _find_account(OWN_ACCOUNT)
    if found is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root and adding the user {OWN_ACCOUNT} failed ({done.stderr.strip()}): "
            "add it, or run this as a user that is not root."
        )
    return found
