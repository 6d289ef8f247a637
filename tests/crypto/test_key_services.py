"""Keys that services keep: AWS KMS (ministack's and moto's) and transit (a real OpenBao server)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.crypto.test_sealing import CONTEXT, ELSEWHERE, flip

from simples3dms.crypto.errors import KeyServiceRefused, KeyServiceUnavailable, SealBroken
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.kms import KmsKey
from simples3dms.crypto.sealing import rewrap, seal, unseal
from simples3dms.crypto.transit import TransitKey
from simples3dms.crypto.wrapping import KeyWrapper
from simples3dms.errors import Unavailable
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.openbao import KEY, OpenBao
from simples3dms.sandbox.ports import free_port_block
from simples3dms.sandbox.s3servers import Ministack, Moto, S3Server

pytestmark = pytest.mark.timeout(120)


@dataclass
class Service:
    """A key at a service, and what its operator can do to it."""

    key: KeyWrapper
    make: Callable[..., KeyWrapper]
    other_key: KeyWrapper
    disabled: Callable[[], KeyWrapper]


def _kms(server: S3Server) -> Service:
    kms = server.client("kms")
    one, two, third = (kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(3))

    def make(key: str = one, *, access_key: str | None = None, endpoint: str | None = None) -> KmsKey:
        return KmsKey(
            "k-far",
            key=key,
            region=server.region,
            endpoint=endpoint or server.endpoint,
            access_key_id=access_key or server.access_key,
            secret_access_key=Secret(server.secret_key),
        )

    kms.disable_key(KeyId=third)
    return Service(make(), make, make(two), lambda: make(third))


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


def _transit(server: OpenBao) -> Service:
    def make(key: str = KEY, *, access_key: str | None = None, endpoint: str | None = None) -> TransitKey:
        token = Secret(access_key or server.token)
        return TransitKey("k-far", key=key, address=endpoint or server.address, token=lambda: token)

    server.call("POST", "transit/keys/other", {})
    return Service(make(), make, make("other"), lambda: make("no-such-key"))


@pytest.fixture(scope="module", params=["ministack", "moto", "openbao"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bao: OpenBao
) -> Iterator[Service]:
    if request.param == "openbao":
        yield _transit(bao)
        return
    kind = {"ministack": Ministack, "moto": Moto}[request.param]
    with kind(tmp_path_factory.mktemp(request.param)) as server:
        yield _kms(server)


def _ring(service: Service) -> Keyring:
    return Keyring({"k-far": service.key, "k-near": secrets.token_bytes(32)}, "k-far")


def test_what_a_service_wrapped_opens_in_its_own_place_only(service: Service) -> None:
    ring = _ring(service)
    value = seal(ring, b"secret", context=CONTEXT)
    assert value.key_id == "k-far"
    assert unseal(ring, value, context=CONTEXT) == b"secret"
    for there in ELSEWHERE:
        with pytest.raises(SealBroken):
            unseal(ring, value, context=there)


def test_s40_the_service_itself_refuses_another_place(service: Service) -> None:
    """The place travels as encryption context, or associated data: the key is not used for any other."""
    wrapped = service.key.wrap(b"d" * 32, b"here")
    assert service.key.unwrap(wrapped, b"here") == b"d" * 32
    with pytest.raises(ValueError, match="does not open"):
        service.key.unwrap(wrapped, b"there")


def test_s40_what_another_key_wrapped_does_not_open(service: Service, request: pytest.FixtureRequest) -> None:
    if "ministack" in request.node.name:
        return  # it does not compare the key that is named with the one that wrapped
    wrapped = service.other_key.wrap(b"d" * 32, b"here")
    with pytest.raises((ValueError, KeyServiceRefused)):
        service.key.unwrap(wrapped, b"here")


def test_s40_changed_bits_are_noticed(service: Service) -> None:
    ring = _ring(service)
    value = seal(ring, b"secret", context=CONTEXT)
    forged = [replace(value, wrapped_key=flip(value.wrapped_key, bit)) for bit in range(300, 420, 17)]
    forged += [replace(value, wrapped_key=value.wrapped_key[:-5]), replace(value, wrapped_key=b"\xff" * 40)]
    forged += [replace(value, sealed=flip(value.sealed, bit)) for bit in range(64, 200, 13)]
    for one in forged:
        with pytest.raises((SealBroken, KeyServiceRefused)):
            unseal(ring, one, context=CONTEXT)


def test_a_value_moves_between_the_ring_and_a_service(service: Service) -> None:
    ring = _ring(service)
    ring.choose("k-near")
    near = seal(ring, b"secret", context=CONTEXT)
    ring.choose("k-far")
    far = rewrap(ring, near, context=CONTEXT)
    assert (near.key_id, far.key_id, far.sealed == near.sealed) == ("k-near", "k-far", True)
    assert unseal(ring, far, context=CONTEXT) == b"secret"


def test_f47_a_service_that_is_away_is_told_as_such_and_may_be_asked_again(service: Service) -> None:
    away = service.make(endpoint=f"http://127.0.0.1:{free_port_block(1)}")
    with pytest.raises(KeyServiceUnavailable) as caught:
        away.wrap(b"d" * 32, b"here")
    assert isinstance(caught.value, Unavailable)
    assert caught.value.retryable
    assert caught.value.problem_code == "key_service_unavailable"


def test_f47_a_key_that_is_disabled_or_gone_is_told_to_the_operator(
    service: Service, request: pytest.FixtureRequest
) -> None:
    is_moto = "moto" in request.node.name  # it encrypts with disabled keys
    gone = service.make("00000000-0000-0000-0000-000000000000") if is_moto else service.disabled()
    if "openbao" in request.node.name:
        # The engine would make a key that it does not know; it opens nothing with one.
        with pytest.raises(KeyServiceRefused):
            gone.unwrap(service.key.wrap(b"d" * 32, b"here"), b"here")
        return
    with pytest.raises(KeyServiceRefused) as caught:
        gone.wrap(b"d" * 32, b"here")
    assert "d" * 32 not in caught.value.message


def test_f47_a_credential_that_the_service_does_not_know_is_refused(
    service: Service, request: pytest.FixtureRequest
) -> None:
    if "openbao" not in request.node.name:
        return  # neither stand-in compares the signatures of calls to KMS
    with pytest.raises(KeyServiceRefused) as caught:
        service.make(access_key="hvs.unknown").wrap(b"d" * 32, b"here")
    assert "hvs.unknown" not in caught.value.message


def test_a_transit_key_that_is_rotated_at_the_server_opens_what_it_wrapped_before(bao: OpenBao) -> None:
    token = Secret(bao.token)
    key = TransitKey("k-far", key=KEY, address=bao.address, token=lambda: token)
    before = key.wrap(b"d" * 32, b"here")
    bao.call("POST", f"transit/keys/{KEY}/rotate", {})
    after = key.wrap(b"e" * 32, b"here")
    assert (before[:9], after[:9]) == (b"vault:v1:", b"vault:v2:")
    assert (key.unwrap(before, b"here"), key.unwrap(after, b"here")) == (b"d" * 32, b"e" * 32)


def test_a_server_that_is_sealed_is_one_that_is_away(tmp_path: Path) -> None:
    with OpenBao(tmp_path / "bao") as server:
        token = Secret(server.token)
        key = TransitKey("k-far", key=KEY, address=server.address, token=lambda: token)
        wrapped = key.wrap(b"d" * 32, b"here")
        server.call("POST", "sys/seal", {})
        with pytest.raises(KeyServiceUnavailable):
            key.unwrap(wrapped, b"here")


def test_nothing_is_signed_with_what_the_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without keys of its own for KMS does not go looking for others."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-host")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-host")
    with pytest.raises(KeyServiceRefused) as caught:
        KmsKey("k-far", key="x", region="us-east-1").wrap(b"d" * 32, b"here")
    assert "SIMPLES3DMS_KMS_ACCESS_KEY_ID" in caught.value.message
    with pytest.raises(KeyServiceRefused, match="SIMPLES3DMS_TRANSIT_TOKEN"):
        TransitKey("k-far", key="x", address="http://127.0.0.1:1", token=lambda: None).wrap(b"d" * 32, b"here")
