"""S-37 for the experimental kinds: neither the environment nor a key file leads their requests, or signs them."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simples3dms import bootstrap
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import BuildOptions, get_kind

pytestmark = pytest.mark.anyio
_HOSTS_OWN = {
    "AZURE_STORAGE_ENDPOINT": "http://elsewhere.example/acme",
    "AZURE_STORAGE_TOKEN": "hosts-token",
    "AZURE_STORAGE_SAS_KEY": "sv=hosts-token&sig=x",
    "AZURE_STORAGE_USE_EMULATOR": "true",
    "AZURE_SKIP_SIGNATURE": "true",
    "GOOGLE_BASE_URL": "https://elsewhere.example",
    "GOOGLE_SKIP_SIGNATURE": "true",
}


class Proxy:
    """Writes down what it is asked, and hangs up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.asked.append(connection.recv(65536).decode("latin-1"))

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(65537, 2048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


async def asked_by(proxy: Proxy, kind: str, settings: dict[str, str], credential: dict[str, str]) -> str:
    provider: Any = get_kind(kind).create(settings, credential, options=BuildOptions(proxy_url=proxy.url))
    with pytest.raises(ProviderError):
        await provider.put("x", b"1")
    await provider.close()
    return proxy.asked[0]


@pytest.mark.parametrize("endpoint", [None, "http://azure.example/acme"])
async def test_s37_an_azure_store_signs_with_its_own_key_and_asks_its_own_host(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, endpoint: str | None
) -> None:
    for name, value in _HOSTS_OWN.items():
        monkeypatch.setenv(name, value)
    settings = {"container": "documents"} | ({} if endpoint is None else {"endpoint": endpoint})
    credential = {"account_name": "acme", "account_key": base64.b64encode(secrets.token_bytes(32)).decode()}
    asked = await asked_by(proxy, "azure", settings, credential)
    own = "CONNECT acme.blob.core.windows.net:443 " if endpoint is None else f"PUT {endpoint}/documents/x "
    assert asked.startswith(own)
    assert "hosts-token" not in asked
    assert endpoint is None or "SharedKey acme:" in asked


@pytest.mark.parametrize(
    "beside", [{}, {"gcs_base_url": "https://elsewhere.example"}, {"disable_oauth": True}], ids=str
)
@pytest.mark.parametrize("endpoint", [None, "http://gcs.example"])
async def test_s37_a_gcs_store_asks_its_own_host_whatever_its_key_file_says(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, pem: str, endpoint: str | None, beside: dict[str, object]
) -> None:
    """A key file comes from whoever brings the store: an address in it would be one that nobody checked."""
    for name, value in _HOSTS_OWN.items():
        monkeypatch.setenv(name, value)
    settings = {"bucket": "documents"} | ({} if endpoint is None else {"endpoint": endpoint})
    file = {"client_email": "a@b.example", "private_key": pem, "private_key_id": "1", **beside}
    asked = await asked_by(proxy, "gcs", settings, {"service_account_key": json.dumps(file)})
    own = "CONNECT storage.googleapis.com:443 " if endpoint is None else f"PUT {endpoint}/documents/x "
    assert asked.startswith(own)
    assert endpoint is None or "Bearer ey" in asked


async def test_s37_a_process_forgets_the_hosts_own_identity(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, pem: str
) -> None:
    for name, value in {**_HOSTS_OWN, "GOOGLE_BEARER_TOKEN": "hosts-token", "AWS_ACCESS_KEY_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "")  # so that what is set here is put back as well
    bootstrap._refuse_host_identity()
    file = json.dumps({"client_email": "a@b.example", "private_key": pem})
    asked = await asked_by(
        proxy, "gcs", {"bucket": "documents", "endpoint": "http://gcs.example"}, {"service_account_key": file}
    )
    assert "hosts-token" not in asked
    assert "Bearer ey" in asked
