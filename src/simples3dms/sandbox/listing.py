"""What is in a stand-in's bucket, as the vendors' own clients list it: a look past the product."""

from __future__ import annotations

import boto3
from b2sdk.v3 import B2Api, InMemoryAccountInfo
from botocore.config import Config

from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer


def list_b2(server: B2Sandbox, bucket_name: str, prefix: str) -> list[str]:
    """Every version and unfinished large file under the prefix."""
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
    bucket = api.get_bucket_by_name(bucket_name)
    found = [version.file_name for version, _ in bucket.ls(prefix, latest_only=False, recursive=True)]
    return found + [unfinished.file_name for unfinished in bucket.list_unfinished_large_files(prefix=prefix)]


def list_s3(server: SeaweedServer, bucket: str, prefix: str) -> list[str]:
    """Every object and unfinished upload under the prefix."""
    s3 = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
    )
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [item["Key"] for page in pages for item in page.get("Contents", [])]
    uploads = s3.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
    return found + [f"unfinished {upload['Key']}" for upload in uploads]
