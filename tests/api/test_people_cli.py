"""The commands about people, as they are typed, against a running server; `recover` against its database."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyotp
import pytest
from tests.api.conftest import Door
from typer.testing import CliRunner

from simples3dms.bootstrap import Services
from simples3dms.cli.main import app
from simples3dms.client import Client
from simples3dms.kit.secret import Secret
from simples3dms.settings import Settings

OLD, NEW = "correct horse battery", "wronger horse battery"


class Terminal:
    """Runs commands with somebody's token; `typed` are the lines of standard input."""

    def __init__(self, door: Door, token: str, home: Path) -> None:
        self._environment = {
            "SIMPLES3DMS_URL": door.url,
            "SIMPLES3DMS_TOKEN": token,
            "SIMPLES3DMS_TENANT": "acme",
            "XDG_CONFIG_HOME": str(home),
        }

    def run(self, *words: object, typed: str = "") -> str:
        result = CliRunner().invoke(app, [str(word) for word in words], input=typed, env=self._environment)
        assert result.exit_code == 0, (words, result.output, result.exception)
        return result.stdout

    def json(self, *words: object, typed: str = "") -> Any:
        return json.loads(self.run(*words, "--json", typed=typed))


def test_the_commands_about_people(door: Door, tmp_path: Path) -> None:
    operator = Terminal(door, door.token.reveal(), tmp_path)
    service = operator.json("service", "create", "scanner", "editor")
    token = operator.json("service", "token", service["id"], "x", "--scope", "documents.read", "--days", 1)
    assert [one["id"] for one in operator.json("service", "tokens", service["id"])] == [token["id"]]
    operator.run("service", "revoke", service["id"], token["id"])
    assert operator.json("service", "disable", service["id"])["disabled_at"]
    assert operator.json("service", "enable", service["id"])["disabled_at"] is None
    monitor = operator.json("service", "create", "monitor", "auditor", "--platform")
    assert [one["id"] for one in operator.json("service", "list", "--platform")] == [monitor["id"]]
    assert "scanner@acme.service.internal" in operator.run("service", "list")

    made = operator.json("invitation", "create", "anna@example.org", "owner")
    operator.json("invitation", "accept", door.url, typed=f"{made['hand_over']['token']}\n{OLD}\n")
    assert operator.json("invitation", "list")[0]["accepted_at"]
    gone = operator.json("invitation", "create", "ben@example.org", "viewer")
    operator.run("invitation", "revoke", gone["invitation"]["id"])

    with Client(door.url, tries=1) as client:
        anna = Terminal(door, client.log_in("anna@example.org", Secret(OLD)).token, tmp_path)
    assert anna.json("account", "show")["name"] == "anna@example.org"
    assert anna.json("account", "sessions") == []
    assert anna.json("account", "end-sessions") == {"count": 0}
    bounded = anna.json("token", "create", "x", "--scope", "documents.read", "--only-tenant", "acme", "--days", 1)
    long = anna.json("token", "create", "y", "--confirm", typed=f"{OLD}\n")
    assert (long["expires_at"], bool(bounded["expires_at"])) == (None, True)

    with door.connect(long["token"]) as client:
        totp = pyotp.TOTP(client.begin_totp(Secret(OLD)).secret)
        codes = client.confirm_totp(Secret(totp.at(int(time.time()) - 30)))
    assert anna.json("account", "factors")["has_totp"]
    fresh = anna.run("account", "recovery-codes", typed=f"{OLD}\n").split()
    assert len(fresh) == 10
    assert set(fresh).isdisjoint(codes)
    signed_in = CliRunner().invoke(
        app,
        ["login", door.url, "--email", "anna@example.org"],
        input=f"{OLD}\n{fresh[0]}\n",
        env={"XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert signed_in.exit_code == 0, signed_in.output
    anna.run("account", "remove-app", typed=f"{OLD}\n")
    anna.json("account", "password", typed=f"{OLD}\n{NEW}\n")

    (user,) = [one for one in operator.json("user", "list") if one["email"] == "anna@example.org"]
    reset = operator.json("user", "reset", user["id"])
    operator.json("account", "use-reset", door.url, typed=f"{reset['token']}\n{OLD}\n")
    operator.json("account", "request-reset", "anna@example.org", door.url)
    operator.run("user", "remove-factors", user["id"])
    assert operator.json("user", "disable", user["id"])["disabled_at"]
    assert operator.json("user", "enable", user["id"])["disabled_at"] is None
    assert operator.json("provider", "list", "--platform") == operator.json("provider", "list") == []


@pytest.mark.anyio
async def test_whoever_holds_the_machine_lets_an_operator_in_again(services: Services, settings: Settings) -> None:
    """In a process of its own, as a host command takes the process's logging."""
    made = await services.identity.ensure_first_operator()
    assert made is not None
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    environment = {
        **os.environ,
        "SIMPLES3DMS_DATABASE_URL": settings.database_url.get_secret_value(),
        "SIMPLES3DMS_DATABASE_OWNER_URL": settings.database_owner_url.get_secret_value(),
        "SIMPLES3DMS_DATA_DIR": str(settings.data_dir),
    }

    async def recover(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "simples3dms", "recover", *words]
        return await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)

    result = await recover(made.email, "--remove-factors", "--json")
    assert result.returncode == 0, result.stderr
    await services.resets.use(Secret(json.loads(result.stdout)["token"]), Secret(NEW), address="")
    await services.identity.log_in(made.email, Secret(NEW), token_name="x")
    assert (await recover("nobody@example.org")).returncode == 1
