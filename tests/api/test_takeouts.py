"""Takeouts: everything comes out and goes back in, whatever interrupts it; hostile archives bring nothing in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.api.conftest import Door

from simples3dms.client import ApiProblem, Client
from simples3dms.client.takeouts import download_takeout, import_takeout, iter_manifest, verify_takeout
from simples3dms.errors import Conflict, Invalid

NAMES = ["plain.txt", "../../etc/passwd", "a\\b:c*?", "ré – 漢字 \u202etxt.exe", " spaces ", "x" * 255]


def fill(door: Door, tmp_path: Path, tenant: str = "acme") -> dict[UUID, list[bytes]]:
    """Documents with one to three versions, one of them empty."""
    bodies: dict[UUID, list[bytes]] = {}
    file = tmp_path / "body.bin"
    with door.connect() as client:
        for number, name in enumerate(NAMES):
            made: UUID | None = None
            for version in range(1 + number % 3):
                body = os.urandom((5 - number) * 40_000 + version)
                file.write_bytes(body)
                # What a header can hold, and no more: bytes of Latin-1.
                kind = "text/pläin" if number == 3 else None
                made = client.upload_document(tenant, file, name=name, document_id=made, content_type=kind).id
                bodies.setdefault(made, []).append(body)
    return bodies


def contents(client: Client, tenant: str) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for document in client.iter_documents(tenant):
        for version in reversed(client.list_versions(tenant, document.id)):
            with client.open_content(tenant, document.id, version=version.number) as chunks:
                found.setdefault(document.name, []).append(b"".join(chunks))
    return found


def add_globex(client: Client) -> None:
    client.create_tenant("globex", "Globex")
    client.grant_store("globex", "disk-b")
    client.set_placement("globex", write="disk-b")


class Counting(Client):
    """Counts what it fetches and uploads, and may stop at one."""

    fetched = 0
    uploaded = 0
    stop_at = -1

    def fetch_version(self, *args: Any, **named: Any) -> None:
        super().fetch_version(*args, **named)
        self.fetched += 1

    def upload_document(self, *args: Any, **named: Any) -> Any:
        made = super().upload_document(*args, **named)
        self.uploaded += 1
        if self.uploaded == self.stop_at:
            raise KeyboardInterrupt
        return made


def counting(door: Door) -> Counting:
    return Counting(door.url, token=door.token, tries=2)


def test_everything_comes_out_and_goes_back_in(door: Door, tmp_path: Path) -> None:
    bodies = fill(door, tmp_path)
    home = tmp_path / "out"
    with counting(door) as client:
        add_globex(client)
        secret = tmp_path / "theirs.txt"
        secret.write_bytes(b"globex only")
        theirs = client.upload_document("globex", secret)
        gone = client.upload_document("acme", secret, name="in the trash")
        client.delete_document("acme", gone.id)
        made = client.create_takeout("acme")
        late = client.upload_document("acme", secret, name="too late")
        summary = download_takeout(client, "acme", home, takeout_id=made.id)
        assert (summary.versions, summary.missing) == (sum(map(len, bodies.values())), 0)
        assert client.fetched == summary.moved == summary.versions
        entries = list(iter_manifest(home))
        assert {entry.document for entry in entries} == set(bodies)
        assert late.id not in {entry.document for entry in entries}
        checked = subprocess.run(["sha256sum", "-c", "--quiet", "digests.sha256"], cwd=home, check=False)
        assert checked.returncode == 0
        # S-54: nothing of another tenant, and no secret.
        kept = b"".join(path.read_bytes() for path in home.glob("*") if path.is_file())
        tenants = [str(client.get_tenant(name).id) for name in ("acme", "globex")]
        for text in (str(theirs.id), "theirs.txt", "globex", *tenants, door.token.reveal(), str(door.roots["disk-a"])):
            assert text.encode() not in kept
        # Again: nothing is fetched.
        assert download_takeout(client, "acme", home).moved == 0
        assert client.fetched == summary.versions
        client.delete_document("acme", late.id)
        before = contents(client, "acme")
        client.delete_document("globex", theirs.id)
        uploaded = client.uploaded
        assert import_takeout(client, "globex", home).moved == summary.versions
        assert contents(client, "globex") == before
        assert import_takeout(client, "globex", home).moved == 0
        assert client.uploaded == uploaded + summary.versions
        by_name = {document.name: document for document in client.iter_documents("globex")}
        assert not {document.id for document in by_name.values()} & set(bodies)
        assert {(entry.name, entry.content_type) for entry in entries} == {
            (document.name, document.content_type) for document in by_name.values()
        }
        original = {entry.name: entry.created_at for entry in entries if entry.version == 1}
        for name, document in by_name.items():
            assert client.list_versions("globex", document.id)[-1].original_created_at == original[name]


def test_a_download_that_was_killed_goes_on(door: Door, tmp_path: Path) -> None:
    """kill -9 in the middle; what was there is not fetched again."""
    bodies = fill(door, tmp_path)
    home = tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLES3DMS_")}
    environment |= {"SIMPLES3DMS_URL": door.url, "SIMPLES3DMS_TOKEN": door.token.reveal()}
    command = [sys.executable, "-m", "simples3dms", "--tenant", "acme", "takeout", "download", str(home)]
    total = sum(map(len, bodies.values()))

    def there() -> list[Path]:
        return [path for path in home.glob("files/*/*") if path.suffix != ".part"]

    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
    process.kill()
    assert process.wait(30) in (-signal.SIGKILL, 0)
    had = len(there())
    assert had >= 1
    # As if it had been killed in the middle of one, and of a line.
    if had < total:
        manifest = (home / "manifest.jsonl").read_bytes()
        (home / "manifest.jsonl").write_bytes(manifest[: len(manifest) // 2])
    victim = max(there(), key=lambda path: path.stat().st_size)
    body = victim.read_bytes()
    victim.unlink()
    victim.with_name(f"{victim.name}.part").write_bytes(body[: len(body) // 2])
    with counting(door) as client:
        summary = download_takeout(client, "acme", home)
        assert summary.versions == total
        assert client.fetched == total - had + 1
        # What was changed on disk since is noticed, and fetched again.
        victim.write_bytes(body[:-1] + bytes([body[-1] ^ 1]) if body else b"x")
        with pytest.raises(Invalid):
            verify_takeout(home)
        assert download_takeout(client, "acme", home).moved == 1
    assert verify_takeout(home).versions == total
    assert {UUID(path.parent.name) for path in there()} == set(bodies)
    assert not list(home.rglob("*.part"))


def test_what_is_purged_meanwhile_is_told(door: Door, tmp_path: Path) -> None:
    bodies = fill(door, tmp_path)
    home = tmp_path / "out"
    with counting(door) as client:
        download_takeout(client, "acme", home)
        victim = max(bodies, key=lambda document_id: len(bodies[document_id]))
        client.delete_document("acme", victim)
        client.purge_document("acme", victim)
        lost = home / "files" / str(victim) / "1"
        lost.unlink()
        summary = download_takeout(client, "acme", home)
        assert (summary.missing, verify_takeout(home).missing) == (1, 1)
        add_globex(client)
        # A document that lost a version is left out, and that told.
        found = import_takeout(client, "globex", home)
        assert found.missing == len(bodies[victim])
        assert len(list(client.iter_documents("globex"))) == len(bodies) - 1


@pytest.mark.parametrize("lost_note", [False, True])
def test_an_import_that_was_killed_goes_on(door: Door, tmp_path: Path, lost_note: bool) -> None:
    bodies = fill(door, tmp_path)
    home = tmp_path / "out"
    with counting(door) as client:
        add_globex(client)
        total = download_takeout(client, "acme", home).versions
        client.uploaded, client.stop_at = 0, 5
        with pytest.raises(KeyboardInterrupt):
            import_takeout(client, "globex", home)
        (notes,) = home.glob("imported-*.jsonl")
        assert len(notes.read_bytes().splitlines()) == 4
        if lost_note:
            # Killed in the middle of writing one.
            notes.write_bytes(notes.read_bytes()[:-9])
        client.stop_at = -1
        import_takeout(client, "globex", home)
        assert len(list(client.iter_documents("globex"))) == len(bodies)
        assert contents(client, "globex") == contents(client, "acme")
        assert sum(len(versions) for versions in contents(client, "globex").values()) == total


Harm = Callable[[Path, list[bytes]], list[bytes] | None]


def edit(old: str, new: str) -> Harm:
    return lambda _home, lines: [lines[0].replace(old.encode(), new.encode()), *lines[1:]]


def link_out(home: Path, lines: list[bytes]) -> None:
    path = next(iter(home.glob("files/*/1")))
    path.unlink()
    path.symlink_to("/etc/hostname")


def link_directory(home: Path, lines: list[bytes]) -> None:
    path = next(iter(home.glob("files/*")))
    path.rename(home / "elsewhere")
    path.symlink_to(home / "elsewhere")


def change_a_byte(home: Path, lines: list[bytes]) -> None:
    path = next(path for path in home.glob("files/*/1") if path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def fifo(home: Path, lines: list[bytes]) -> None:
    path = next(iter(home.glob("files/*/1")))
    path.unlink()
    os.mkfifo(path)


HARMS: dict[str, Harm] = {
    "a path": edit('"name":', '"path":"/etc/passwd","name":'),
    "an id that is a path": lambda _h, lines: [b'{"document":"../../x"' + lines[0][47:], *lines[1:]],
    "a version of nothing": edit('"version":1', '"version":0'),
    "a huge version": edit('"version":1', '"version":99999999999'),
    "a negative size": edit('"size_bytes":', '"size_bytes":-'),
    "a huge size": edit('"size_bytes":', '"size_bytes":9999999999999'),
    "a size that is no number": edit('"size_bytes":', '"size_bytes":"x","x":'),
    "a name with a newline": edit('"name":"', '"name":"\\n'),
    "a header in the type": edit('"content_type":"', '"content_type":"a\\r\\nX: y'),
    "a digest that is none": edit('"sha256":"', '"sha256":"zz'),
    "a foreign digest": lambda _h, lines: [lines[0].replace(b'"sha256":"', b'"sha256":"0000')[:-5] + lines[0][-1:]],
    "a time without a zone": edit('Z"', '"'),
    "one document twice": lambda _h, lines: [lines[0], *lines],
    "another order": lambda _h, lines: [*lines[-3:-1], *lines[:-3], lines[-1]],
    "a document that is not there": lambda _h, lines: [
        lines[0].replace(lines[0][13:49], str(uuid4()).encode()),
        lines[-1],
    ],
    "no end": lambda _h, lines: lines[:-1],
    "more after the end": lambda _h, lines: [*lines, lines[0]],
    "a line without end": lambda _h, lines: [b"{" + b" " * 200_000 + lines[0], *lines],
    "no json": lambda _h, lines: [b"\xff\x00{{{\n", *lines],
    "deep json": lambda _h, lines: [b"[" * 50_000 + b"\n", *lines],
    "a link to a file": link_out,
    "a link to a directory": link_directory,
    "a pipe": fifo,
    "a changed byte": change_a_byte,
}


def test_s54_a_hostile_archive_brings_nothing_in(door: Door, tmp_path: Path) -> None:
    fill(door, tmp_path)
    home = tmp_path / "out"
    with counting(door) as client:
        add_globex(client)
        download_takeout(client, "acme", home)
        manifest = (home / "manifest.jsonl").read_bytes()
        client.uploaded = 0
        for name, harm in HARMS.items():
            copy = tmp_path / f"hostile-{uuid4()}"
            subprocess.run(["cp", "-a", str(home), str(copy)], check=True)
            lines = harm(copy, manifest.splitlines(keepends=True))
            if lines is not None:
                (copy / "manifest.jsonl").write_bytes(b"".join(lines))
            caught = ""
            try:
                import_takeout(client, "globex", copy)
            except Invalid as failure:
                caught = failure.problem_code
            assert caught == "takeout_invalid", name
        (home / "takeout.json").write_text('{"takeout": "../x"}')
        with pytest.raises(Invalid):
            import_takeout(client, "globex", home)
        assert client.uploaded == 0
        assert list(client.iter_documents("globex")) == []


def test_takeouts_of_others_and_other_directories(door: Door, tmp_path: Path) -> None:
    with door.connect() as client:
        add_globex(client)
        made = client.create_takeout("acme")
        with pytest.raises(ApiProblem) as caught:
            client.get_takeout("globex", made.id)
        assert caught.value.code == "takeout_not_found"
        with pytest.raises(ApiProblem) as caught, client.open_manifest("globex", made.id) as lines:
            list(lines)
        assert caught.value.code == "takeout_not_found"
        for after in ("x", f"{uuid4()}", f"{uuid4()}:-1", f"{uuid4()}:９"):
            with pytest.raises(ApiProblem) as caught, client.open_manifest("acme", made.id, after=after) as lines:
                list(lines)
            assert caught.value.code == "takeout_cursor_invalid"
        download_takeout(client, "acme", tmp_path / "empty")
        with pytest.raises(Conflict):
            download_takeout(client, "acme", tmp_path / "empty", takeout_id=made.id)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").touch()
        with pytest.raises(Conflict):
            download_takeout(client, "acme", tmp_path / "full")
