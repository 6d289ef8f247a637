"""A key-encrypting key that the transit engine of HashiCorp Vault or OpenBao keeps."""

from __future__ import annotations

import base64
import binascii
import re
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from simples3dms.crypto.errors import KeyServiceRefused, KeyServiceUnavailable
from simples3dms.crypto.wrapping import fingerprint_of_place
from simples3dms.kit.secret import Secret

_TIMEOUT: Final = httpx.Timeout(10, connect=5)
_TRIES: Final = 3
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
#: What the engine says of a ciphertext that was changed, or that is bound to another place. All else in a 400 is about
#: the key: that it is gone, say.
_BROKEN: Final = ("message authentication failed", "invalid ciphertext", "ciphertext or signature version")


class TransitKey:
    """`key`: the name of a key of a type that takes associated data: `aes256-gcm96`, or its like."""

    def __init__(
        self,
        key_id: str,
        *,
        key: str,
        address: str,
        mount: str = "transit",
        namespace: str | None = None,
        token: Callable[[], Secret | None],
        ca_file: Path | None = None,
    ) -> None:
        if not _NAME.fullmatch(key) or not _NAME.fullmatch(mount) or ".." in f"{key}/{mount}":
            raise ValueError("a transit key and its mount have plain names")
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
            raise ValueError("the address is http(s)://host:port")
        self.key_id = key_id
        self._key, self._mount, self._namespace = key, mount, namespace
        self._address = address.rstrip("/")
        self._token, self._ca_file = token, ca_file
        self._lock = threading.Lock()
        self._made: httpx.Client | None = None

    @property
    def place(self) -> str:
        return f"transit {self._namespace or ''}/{self._mount}/{self._key}".replace(" /", " ")

    @property
    def fingerprint(self) -> bytes:
        # Not the address: machines may reach the one key by different ways.
        return fingerprint_of_place(self.place)

    def wrap(self, data_key: bytes, bound_to: bytes) -> bytes:
        answer = self._call("encrypt", {"plaintext": _base64(data_key), "associated_data": _base64(bound_to)})
        return str(answer["ciphertext"]).encode()

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        try:
            ciphertext = wrapped.decode("ascii")
        except UnicodeDecodeError:
            raise ValueError("it does not open") from None
        answer = self._call("decrypt", {"ciphertext": ciphertext, "associated_data": _base64(bound_to)})
        try:
            return base64.b64decode(str(answer["plaintext"]), validate=True)
        except binascii.Error:
            raise ValueError("it does not open") from None

    def _call(self, operation: str, body: dict[str, str]) -> dict[str, Any]:
        response = self._send(f"{self._address}/v1/{self._mount}/{operation}/{self._key}", body)
        if response.status_code == 200:
            try:
                data = response.json()["data"]
                return dict(data)
            except (ValueError, KeyError, TypeError):
                raise KeyServiceRefused(self.key_id, "no answer of a transit engine") from None
        if response.status_code >= 500 or response.status_code in (412, 429):
            # 503: sealed or starting; 412: a standby that has not caught up yet.
            raise KeyServiceUnavailable(self.key_id)
        if response.status_code == 400 and operation == "decrypt" and any(one in response.text for one in _BROKEN):
            raise ValueError("it does not open")
        raise KeyServiceRefused(self.key_id, f"HTTP {response.status_code}")

    def _send(self, url: str, body: dict[str, str]) -> httpx.Response:
        try:
            token = self._token()
        except OSError:
            token = None
        if not token:
            raise KeyServiceRefused(self.key_id, "no SIMPLES3DMS_TRANSIT_TOKEN or _TOKEN_FILE")
        headers = {"X-Vault-Token": token.reveal(), "X-Vault-Request": "true"}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        for is_last in (*[False] * (_TRIES - 1), True):
            try:
                return self._client().post(url, json=body, headers=headers)
            except httpx.HTTPError:
                if is_last:
                    # `from None`: the original holds the request, and so the token.
                    raise KeyServiceUnavailable(self.key_id) from None
        raise AssertionError("unreachable")

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._made is None:
                verify: ssl.SSLContext | bool = True
                if self._ca_file is not None:
                    verify = ssl.create_default_context(cafile=str(self._ca_file))
                self._made = httpx.Client(timeout=_TIMEOUT, verify=verify, trust_env=False, follow_redirects=False)
            return self._made


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
