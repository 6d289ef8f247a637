"""The doors that people come in by, asked over HTTP."""

from __future__ import annotations

import httpx
import pytest
from tests.api.conftest import Door

from simples3dms.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sign_in_account_attempts": 3, "sign_in_account_seconds": 600})


@pytest.fixture
def browser(door: Door) -> httpx.Client:
    return httpx.Client(base_url=door.url, trust_env=False, timeout=30)


def test_s10_too_many_attempts_are_told_when_to_come_again(browser: httpx.Client) -> None:
    body = {"email": "anna@example.org", "password": "wronger horse battery"}
    answers = [browser.post("/api/v1/login", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert answers[3].json()["code"] == "too_many_attempts"
    assert 590 < int(answers[3].headers["retry-after"]) <= 600
    # A header that anybody can write names no network.
    forged = browser.post("/api/v1/login", json=body, headers={"X-Forwarded-For": "203.0.113.9"})
    assert forged.status_code == 429
