"""Control calls through botocore, in threads: parts, copies, versions, deletes, listings. All of it blocks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from simples3dms.providers.base import (
    CopySource,
    ListPage,
    ObjectInfo,
    ObjectRef,
    Part,
    PartsUpload,
)
from simples3dms.providers.errors import ObjectNotFound, ProviderError
from simples3dms.providers.kinds.s3.config import S3Credential, S3Settings
from simples3dms.providers.kinds.s3.errors import from_vendor

LIST_PAGE: Final = 1000
DELETE_PAGE: Final = 1000


def write_options(settings: S3Settings, credential: S3Credential) -> dict[str, Any]:
    """What every new object of this store is asked to have: storage class and encryption."""
    asked: dict[str, Any] = {}
    if settings.storage_class is not None:
        asked["StorageClass"] = settings.storage_class
    if settings.encryption == "SSE-S3":
        asked["ServerSideEncryption"] = "AES256"
    elif settings.encryption == "SSE-KMS":
        asked["ServerSideEncryption"] = "aws:kms"
        if settings.kms_key_id is not None:
            asked["SSEKMSKeyId"] = settings.kms_key_id
    return asked | customer_key(settings, credential)


def customer_key(settings: S3Settings, credential: S3Credential, role: str = "") -> dict[str, Any]:
    """The key that SSE-C demands with every request; `role` is `CopySource` for the object copied from."""
    if settings.encryption != "SSE-C" or credential.customer_key is None:
        return {}
    key = base64.b64decode(credential.customer_key.reveal())
    return {f"{role}SSECustomerAlgorithm": "AES256", f"{role}SSECustomerKey": key}


def checksum_of(body: bytes, mode: str) -> dict[str, Any]:
    """The header that lets the service compare the bytes: Content-MD5 where no newer checksum was chosen."""
    if mode == "none":
        return {"ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}
    if mode == "sha256":
        return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
    from awscrt import checksums  # type: ignore[import-untyped]  # only where a store uses it: a megabyte of library

    if mode == "crc32c":
        return {"ChecksumCRC32C": base64.b64encode(checksums.crc32c(body).to_bytes(4, "big")).decode()}
    return {"ChecksumCRC64NVME": base64.b64encode(checksums.crc64nvme(body).to_bytes(8, "big")).decode()}


def head_object(s3: Any, bucket: str, key: str, place: ObjectRef, asked: dict[str, Any]) -> ObjectInfo:
    """HeadObject of `place` (a full path), told as of `key`."""
    if place.version_id is not None:
        asked = {**asked, "VersionId": place.version_id}
    told = s3.head_object(Bucket=bucket, Key=place.key, **asked)
    return ObjectInfo(
        key,
        told["ContentLength"],
        place.version_id or told.get("VersionId"),
        told.get("ETag"),
        told.get("LastModified"),
        sha256=told_sha256(told),
    )


def told_sha256(told: dict[str, Any]) -> str | None:
    """The SHA-256 of the whole object, where the service tells one; one made of its parts' is none (`ChecksumType`)."""
    try:
        digest = base64.b64decode(told.get("ChecksumSHA256") or "", validate=True)
    except ValueError:
        return None
    whole = told.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and len(digest) == hashlib.sha256().digest_size
    return digest.hex() if whole else None


def list_page(
    s3: Any,
    bucket: str,
    prefix: str,
    own: str,
    cursor: str | None,
    start_after: str | None,
    *,
    versioned: bool,
    limit: int = LIST_PAGE,
) -> ListPage:
    """A page below `prefix`; keys come without `own`. What lies elsewhere was not asked for and is left out.

    A full page that is told as the last is not believed (JuiceFS does so with versions): the next one is asked for.
    """
    if versioned:
        return _versions_page(s3, bucket, prefix, own, cursor, start_after, limit)
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": limit}
    if cursor is not None:
        name, value = json.loads(cursor)
        asked[name] = value
    elif start_after is not None:
        asked["StartAfter"] = own + start_after
    page = s3.list_objects_v2(**asked)
    after = asked.get("StartAfter")
    # Some services take no heed of it.
    found = [item for item in page.get("Contents", ()) if after is None or item["Key"] > after]
    following = None
    if page.get("IsTruncated") and "NextContinuationToken" in page:
        following = json.dumps(["ContinuationToken", page["NextContinuationToken"]])
    elif page.get("IsTruncated") or len(found) >= limit:
        following = json.dumps(["StartAfter", found[-1]["Key"]])
    items = [_info(item, own, None) for item in found if _is_ours(item, prefix)]
    return ListPage([i for i in items if start_after is None or i.key > start_after], following)


def _versions_page(
    s3: Any, bucket: str, prefix: str, own: str, cursor: str | None, start_after: str | None, limit: int
) -> ListPage:
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": limit}
    if cursor is not None:
        asked["KeyMarker"], asked["VersionIdMarker"] = json.loads(cursor)
    elif start_after is not None:
        asked["KeyMarker"] = own + start_after
    page = s3.list_object_versions(**asked)
    marker = asked.get("KeyMarker")
    both = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
    found = [item for item in both if marker is None or item["Key"] >= marker]
    items = [_info(item, own, item.get("VersionId")) for item in found if _is_ours(item, prefix)]
    following = None
    if page.get("IsTruncated"):
        following = json.dumps([page["NextKeyMarker"], page.get("NextVersionIdMarker", "")])
    elif len(found) >= limit:
        last = max(found, key=lambda item: item["Key"])
        following = json.dumps([last["Key"], last.get("VersionId", "")])
    kept = [item for item in items if start_after is None or item.key > start_after]
    return ListPage(sorted(kept, key=lambda item: item.key), following)


def _is_ours(item: Any, prefix: str) -> bool:
    """What lies elsewhere was not asked for; an empty "folder" is a mark of other tools and of gateways, no object."""
    key = str(item["Key"])
    return key.startswith(prefix) and not (key.endswith("/") and not item.get("Size"))


def _info(item: Any, own: str, version_id: str | None) -> ObjectInfo:
    key = str(item["Key"]).removeprefix(own)
    return ObjectInfo(key, item.get("Size", 0), version_id, item.get("ETag"), item.get("LastModified"))


def unfinished_page(s3: Any, bucket: str, prefix: str, own: str, cursor: str | None) -> ListPage:
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxUploads": LIST_PAGE}
    if cursor is not None:
        asked["KeyMarker"], asked["UploadIdMarker"] = json.loads(cursor)
    try:
        page = s3.list_multipart_uploads(**asked)
    except ClientError as error:
        if error.response["Error"].get("Code") != "NoSuchUpload":
            raise
        page = {}  # so says rclone of a bucket in which nothing is unfinished
    items = [
        ObjectInfo(str(item["Key"]).removeprefix(own), 0, item["UploadId"], None, item.get("Initiated"))
        for item in page.get("Uploads", ())
        if str(item["Key"]).startswith(prefix)
    ]
    following = None
    if page.get("IsTruncated"):
        following = json.dumps([page["NextKeyMarker"], page.get("NextUploadIdMarker", "")])
    return ListPage(items, following)


def delete_page(
    s3: Any, bucket: str, own: str, refs: Sequence[ObjectRef], *, many: bool
) -> dict[ObjectRef, ProviderError]:
    """Delete these; the errors by object, none for what is gone."""
    if not many:
        failed = {ref: _delete_one(s3, bucket, own, ref) for ref in refs}
        return {ref: error for ref, error in failed.items() if error is not None}
    objects = [{"Key": own + ref.key} | ({"VersionId": ref.version_id} if ref.version_id else {}) for ref in refs]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    by_name = {(own + ref.key, ref.version_id or ""): ref for ref in refs}
    errors: dict[ObjectRef, ProviderError] = {}
    for item in answer.get("Errors", ()):
        key = str(item.get("Key", ""))
        error = from_vendor(
            ClientError({"Error": {"Code": str(item.get("Code", "")), "Message": ""}}, "DeleteObjects"),
            key.removeprefix(own),
        )
        if isinstance(error, ObjectNotFound) and error.vendor_code:
            continue  # the service itself says so, in a listing of errors
        named = by_name.get((key, item.get("VersionId") or ""))
        # An error that names none of what we asked for spoils the whole page: better twice than never.
        for ref in [named] if named else refs:
            errors[ref] = error
    return errors


def _delete_one(s3: Any, bucket: str, own: str, ref: ObjectRef) -> ProviderError | None:
    version = {"VersionId": ref.version_id} if ref.version_id else {}
    try:
        s3.delete_object(Bucket=bucket, Key=own + ref.key, **version)
    except ClientError as error:
        return from_vendor(error, ref.key)
    return None


def delete_versions(s3: Any, bucket: str, path: str) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=path)
    for page in pages:
        for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            if item["Key"] == path:
                s3.delete_object(Bucket=bucket, Key=path, VersionId=item["VersionId"])


def abort_uploads(s3: Any, bucket: str, path: str) -> None:
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=path)
    for page in pages:
        for item in page.get("Uploads", ()):
            if item["Key"] == path:
                s3.abort_multipart_upload(Bucket=bucket, Key=path, UploadId=item["UploadId"])


def list_parts(s3: Any, bucket: str, path: str, upload: PartsUpload) -> list[Part]:
    pages = s3.get_paginator("list_parts").paginate(Bucket=bucket, Key=path, UploadId=upload.upload_id)
    found = [Part(item["PartNumber"], item["Size"], item["ETag"]) for page in pages for item in page.get("Parts", ())]
    return sorted(found, key=lambda part: part.number)


def copy_object(
    s3: Any, bucket: str, path: str, source: CopySource, options: dict[str, Any], *, part_bytes: int, whole: bool
) -> Any:
    """CopyObject where `whole`, else a copy in parts; the answer with `ETag` and `VersionId` where there are any."""
    place: dict[str, Any] = {"Bucket": source.location.bucket, "Key": source.location.prefix + source.key}
    if source.version_id is not None:
        place["VersionId"] = source.version_id
    if whole:
        answer = s3.copy_object(Bucket=bucket, Key=path, CopySource=place, **options)
        return {"ETag": answer["CopyObjectResult"].get("ETag"), "VersionId": answer.get("VersionId")}
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=path, **options)["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, source.size_bytes, part_bytes), 1):
            end = min(start + part_bytes, source.size_bytes) - 1
            made = s3.upload_part_copy(
                Bucket=bucket,
                Key=path,
                UploadId=upload_id,
                PartNumber=number,
                CopySource=place,
                CopySourceRange=f"bytes={start}-{end}",
            )
            parts.append({"PartNumber": number, "ETag": made["CopyPartResult"]["ETag"]})
        return s3.complete_multipart_upload(
            Bucket=bucket, Key=path, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
    except BaseException:
        s3.abort_multipart_upload(Bucket=bucket, Key=path, UploadId=upload_id)
        raise
