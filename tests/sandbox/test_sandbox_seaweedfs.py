"""SeaweedFS as the stand-in for S3: real signatures, real refusals, data that outlives a kill."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from simples3dms.sandbox.seaweedfs import SeaweedServer


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3"), buckets=("docs", "more")) as server:
        yield server


def client(server: SeaweedServer, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_put_and_get(s3: SeaweedServer) -> None:
    s3.client().put_object(Bucket="more", Key="a/b ü", Body=b"body")
    assert s3.client().get_object(Bucket="more", Key="a/b ü")["Body"].read() == b"body"


def test_wrong_secrets_are_refused(s3: SeaweedServer) -> None:
    with pytest.raises(ClientError) as error:
        client(s3, s3.access_key, "wrong").list_objects_v2(Bucket="docs")
    assert code_of(error) == "SignatureDoesNotMatch"
    with pytest.raises(ClientError) as error:
        client(s3, "nobody", s3.secret_key).list_objects_v2(Bucket="docs")
    assert code_of(error) == "InvalidAccessKeyId"


def test_the_reader_reads_only(s3: SeaweedServer) -> None:
    s3.client().put_object(Bucket="docs", Key="a", Body=b"body")
    reader = client(s3, s3.readonly_access_key, s3.readonly_secret_key)
    assert reader.get_object(Bucket="docs", Key="a")["Body"].read() == b"body"
    assert reader.list_objects_v2(Bucket="docs")["KeyCount"] == 1
    with pytest.raises(ClientError) as error:
        reader.put_object(Bucket="docs", Key="b", Body=b"")
    assert code_of(error) == "AccessDenied"
    with pytest.raises(ClientError):
        reader.delete_object(Bucket="docs", Key="a")


def test_buckets_are_made_on_demand_only(s3: SeaweedServer) -> None:
    with pytest.raises(ClientError) as error:
        s3.client().put_object(Bucket="not-made", Key="a", Body=b"")
    assert code_of(error) == "NoSuchBucket"
    s3.create_bucket("made-now")
    s3.create_bucket("made-now")
    s3.client().put_object(Bucket="made-now", Key="a", Body=b"")


def test_it_listens_on_the_loopback_only(s3: SeaweedServer) -> None:
    found = {c.laddr.ip for c in psutil.Process(s3.pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert found == {"127.0.0.1"}


def test_kill_and_restart_keep_data_address_and_keys(tmp_path: Path) -> None:
    with SeaweedServer(tmp_path) as server:
        identities = tmp_path / "identities.json"
        assert stat.S_IMODE(identities.stat().st_mode) == 0o600
        keys, endpoint = (server.access_key, server.secret_key), server.endpoint
        s3 = server.client()
        s3.put_object(Bucket="docs", Key="small", Body=b"kept")
        s3.put_object(Bucket="docs", Key="big", Body=b"k" * 9_000_000)
        server.kill()
        server.start()
        assert server.endpoint == endpoint
        assert s3.get_object(Bucket="docs", Key="small")["Body"].read() == b"kept"
    with SeaweedServer(tmp_path) as again:
        assert (again.access_key, again.secret_key) == keys
        assert len(again.client().get_object(Bucket="docs", Key="big")["Body"].read()) == 9_000_000
