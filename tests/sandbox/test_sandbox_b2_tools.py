"""The B2 sandbox through the `b2` command line and rclone, which find gaps that b2sdk does not touch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from simples3dms.sandbox.b2 import B2Sandbox

Run = Callable[..., str]


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def run(command: list[str], environment: dict[str, str]) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("B2_", "RCLONE_"))}
    done = subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    (directory / "sub folder").mkdir(parents=True)
    (directory / "small.txt").write_bytes(b"small")
    (directory / "empty").write_bytes(b"")
    (directory / "sub folder" / "ünï+%.bin").write_bytes(os.urandom(70_000))
    (directory / "large.bin").write_bytes(os.urandom(12_000_000))
    return directory


def test_the_b2_command_line(b2: B2Sandbox, bucket_name: str, files: Path, tmp_path: Path) -> None:
    environment = {
        "B2_ENVIRONMENT": b2.url,
        "B2_APPLICATION_KEY_ID": b2.application_key_id,
        "B2_APPLICATION_KEY": b2.application_key,
        "B2_ACCOUNT_INFO": str(tmp_path / "account_info"),
    }

    def b2_command(*arguments: str) -> str:
        return run([program("b2"), *arguments], environment)

    b2_command("sync", "--no-progress", str(files), f"b2://{bucket_name}/synced")
    part = ["--min-part-size", "5000000", "--no-progress"]
    b2_command("file", "upload", *part, bucket_name, str(files / "large.bin"), "large.bin")
    listed = json.loads(b2_command("ls", "--json", "--recursive", f"b2://{bucket_name}"))
    assert [file["fileName"] for file in listed] == [
        *("large.bin", "synced/empty", "synced/large.bin", "synced/small.txt", "synced/sub folder/ünï+%.bin"),
    ]
    assert bucket_name in b2_command("bucket", "list")
    b2_command("file", "download", "--no-progress", f"b2://{bucket_name}/large.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (files / "large.bin").read_bytes()
    b2_command("rm", "--recursive", "--no-progress", f"b2://{bucket_name}")
    assert json.loads(b2_command("ls", "--json", "--recursive", "--versions", f"b2://{bucket_name}")) == []


def test_rclone(b2: B2Sandbox, bucket_name: str, files: Path, tmp_path: Path) -> None:
    environment = {
        "RCLONE_CONFIG": str(tmp_path / "rclone.conf"),
        "RCLONE_CONFIG_B_TYPE": "b2",
        "RCLONE_CONFIG_B_ACCOUNT": b2.application_key_id,
        "RCLONE_CONFIG_B_KEY": b2.application_key,
        "RCLONE_CONFIG_B_ENDPOINT": b2.url,
        "RCLONE_CONFIG_B_CHUNK_SIZE": "5M",
        "RCLONE_CONFIG_B_UPLOAD_CUTOFF": "6M",
        "RCLONE_CONFIG_B_HARD_DELETE": "true",
        "RCLONE_RETRIES": "1",
        "RCLONE_LOW_LEVEL_RETRIES": "1",
    }

    def rclone(*arguments: str) -> str:
        return run([program("rclone"), *arguments], environment)

    remote = f"b:{bucket_name}/tree"
    rclone("copy", str(files), remote)
    rclone("check", "--download", str(files), remote)
    expected = ["empty", "large.bin", "small.txt", "sub folder/ünï+%.bin"]
    assert sorted(rclone("lsf", "--recursive", "--files-only", remote).splitlines()) == expected
    assert rclone("lsf", remote).splitlines() == ["empty", "large.bin", "small.txt", "sub folder/"]
    sizes = {entry["Path"]: entry["Size"] for entry in json.loads(rclone("lsjson", remote))}
    assert sizes["large.bin"] == 12_000_000
    rclone("copyto", f"{remote}/large.bin", f"b:{bucket_name}/copied")
    rclone("copyto", f"b:{bucket_name}/copied", str(tmp_path / "copied"))
    assert (tmp_path / "copied").read_bytes() == (files / "large.bin").read_bytes()
    rclone("purge", remote)
    rclone("deletefile", f"b:{bucket_name}/copied")
    rclone("mkdir", "b:made-by-rclone")
    rclone("rmdir", f"b:{bucket_name}")
    assert bucket_name not in rclone("lsd", "b:")
