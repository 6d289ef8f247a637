"""The calls about the account: authorisation, application keys, buckets."""

from __future__ import annotations

import secrets
from typing import Any

from simples3dms.sandbox.b2.account import CAPABILITIES, TOKEN_SECONDS, Account
from simples3dms.sandbox.b2.errors import B2Error, bad_request, unauthorized
from simples3dms.sandbox.b2.http import Answer, Request, json_answer
from simples3dms.sandbox.b2.records import Bucket, Key, now_ms

MINIMUM_PART_BYTES = 5_000_000
_RECOMMENDED_PART_BYTES = 100_000_000
_LONGEST_KEY_SECONDS = 1000 * 86_400


async def authorize_account(account: Account, request: Request) -> Answer:
    key = account.log_in(request)
    seconds = TOKEN_SECONDS
    if key.expires_at is not None:
        seconds = min(seconds, (key.expires_at - now_ms()) / 1000)
    url = f"http://{request.headers['host']}"
    storage = {
        "apiUrl": url,
        "downloadUrl": url,
        "s3ApiUrl": f"{url}/there-is-no-s3-here",
        "recommendedPartSize": _RECOMMENDED_PART_BYTES,
        "absoluteMinimumPartSize": MINIMUM_PART_BYTES,
    }
    answer = {
        "accountId": account.id,
        "authorizationToken": account.tokens.mint("account", key.id, seconds=seconds),
        "applicationKeyExpirationTimestamp": key.expires_at,
    }
    version = _version(request)
    if version <= 2:
        return json_answer({**answer, **storage, "minimumPartSize": 100_000_000, "allowed": _allowed(account, key, 2)})
    allowed = _allowed(account, key, version)
    extra = allowed if version == 3 else {"allowed": allowed}
    return json_answer({**answer, "apiInfo": {"storageApi": {"infoType": "storageApi", **storage, **extra}}})


def _version(request: Request) -> int:
    digit = request.path.removeprefix("/b2api/v")[:1]
    return int(digit) if digit.isdecimal() else 1


def _allowed(account: Account, key: Key, version: int) -> dict[str, Any]:
    named: list[dict[str, str | None]] | None = None
    if key.bucket_ids is not None:
        found = {bucket.id: bucket.name for bucket in account.records.list_buckets()}
        named = [{"id": bucket_id, "name": found.get(bucket_id)} for bucket_id in key.bucket_ids]
    rights = {"capabilities": sorted(key.capabilities), "namePrefix": key.prefix}
    if version >= 4:
        return {"buckets": named, **rights}
    only = named[0] if named else {"id": None, "name": None}
    return {"bucketId": only["id"], "bucketName": only["name"], **rights}


async def create_key(account: Account, request: Request) -> Answer:
    account.authorize(request, "writeKeys")
    capabilities = request.params.get("capabilities")
    if not isinstance(capabilities, list) or not capabilities:
        raise bad_request("required field capabilities is missing")
    unknown = sorted(map(str, set(capabilities) - CAPABILITIES))
    if unknown:
        raise bad_request(f"Unknown capabilities: {', '.join(unknown)}")
    only = request.find_text("bucketId")
    bucket_ids = request.params.get("bucketIds") or ([only] if only else None)
    for bucket_id in bucket_ids or ():
        account.get_bucket(bucket_id)
    seconds = request.number("validDurationInSeconds", default=0, most=_LONGEST_KEY_SECONDS)
    key = Key(
        id=f"005{account.id}{secrets.randbelow(10**10):010d}",
        secret=f"K005{secrets.token_urlsafe(24)}",
        name=request.text("keyName"),
        capabilities=frozenset(capabilities),
        bucket_ids=None if bucket_ids is None else tuple(bucket_ids),
        prefix=request.find_text("namePrefix"),
        expires_at=now_ms() + seconds * 1000 if seconds else None,
    )
    account.records.put_key(key)
    return json_answer({**_key_fields(account, key), "applicationKey": key.secret})


async def list_keys(account: Account, request: Request) -> Answer:
    account.authorize(request, "listKeys")
    limit = request.number("maxKeyCount", default=100, most=10_000)
    found = account.records.list_keys(request.find_text("startApplicationKeyId") or "", limit + 1)
    keys = [_key_fields(account, key) for key in found[:limit] if key.id != account.master_key_id]
    return json_answer({"keys": keys, "nextApplicationKeyId": found[limit].id if len(found) > limit else None})


async def delete_key(account: Account, request: Request) -> Answer:
    account.authorize(request, "deleteKeys")
    key = account.records.find_key(request.text("applicationKeyId"))
    if key is None:
        raise bad_request("There is no such application key.")
    account.records.delete_key(key.id)
    return json_answer(_key_fields(account, key))


def _key_fields(account: Account, key: Key) -> dict[str, Any]:
    only = key.bucket_ids[0] if key.bucket_ids else None
    return {
        "accountId": account.id,
        "applicationKeyId": key.id,
        "bucketId": only,
        "bucketIds": key.bucket_ids,
        "capabilities": sorted(key.capabilities),
        "expirationTimestamp": key.expires_at,
        "keyName": key.name,
        "namePrefix": key.prefix,
        "options": [],
    }


async def create_bucket(account: Account, request: Request) -> Answer:
    account.authorize(request, "writeBuckets")
    bucket = account.add_bucket(request.text("bucketName"), _settings(request))
    return json_answer(_bucket_fields(account, bucket))


async def update_bucket(account: Account, request: Request) -> Answer:
    bucket_id = request.text("bucketId")
    account.authorize(request, "writeBuckets", bucket_id=bucket_id)
    bucket = account.get_bucket(bucket_id)
    if bucket.has_lock and request.params.get("fileLockEnabled") is False:
        raise bad_request("File lock can't be turned off.", "file_lock_conflict")
    if request.params.get("ifRevisionIs") not in (None, bucket.revision):
        raise B2Error(409, "conflict", "The bucket has been updated since.")
    return json_answer(_bucket_fields(account, account.records.update_bucket(bucket, _settings(request))))


def _settings(request: Request) -> dict[str, Any]:
    if request.params.get("defaultRetention") or request.params.get("replicationConfiguration"):
        raise bad_request("The sandbox has neither default retentions nor replication.")
    kept = ("fileLockEnabled", "bucketType", "bucketInfo", "corsRules", "lifecycleRules", "defaultServerSideEncryption")
    settings = {name: request.params[name] for name in kept if request.params.get(name) is not None}
    if settings.get("bucketType", "allPrivate") not in ("allPrivate", "allPublic"):
        raise bad_request("bucketType must be allPrivate or allPublic")
    return settings


async def delete_bucket(account: Account, request: Request) -> Answer:
    bucket_id = request.text("bucketId")
    account.authorize(request, "deleteBuckets", bucket_id=bucket_id)
    bucket = account.get_bucket(bucket_id)
    if not account.files.is_empty(bucket_id):
        raise bad_request("Cannot delete non-empty bucket", "cannot_delete_non_empty_bucket")
    account.records.delete_bucket(bucket_id)
    return json_answer(_bucket_fields(account, bucket))


async def list_buckets(account: Account, request: Request) -> Answer:
    key = account.authorize(request, "listBuckets", bucket_id=request.find_text("bucketId"))
    wanted_id, wanted_name = request.find_text("bucketId"), request.find_text("bucketName")
    found = account.records.list_buckets()
    if wanted_id is not None:
        found = [bucket for bucket in found if bucket.id == wanted_id]
    if wanted_name is not None:
        found = [bucket for bucket in found if bucket.name == wanted_name]
    if key.bucket_ids is not None:
        if wanted_id is None and wanted_name is None:
            raise unauthorized("a key restricted to buckets must name one of them")
        if any(bucket.id not in key.bucket_ids for bucket in found):
            raise unauthorized("not entitled: another bucket")
    return json_answer({"buckets": [_bucket_fields(account, bucket, key) for bucket in found]})


def _bucket_fields(account: Account, bucket: Bucket, key: Key | None = None) -> dict[str, Any]:
    """`key`: who asks, and is told of the lock only if it may read that. None: whoever may change it."""
    settings = dict(bucket.settings)
    settings.pop("fileLockEnabled", None)
    encryption = settings.pop("defaultServerSideEncryption", {"algorithm": None, "mode": None})
    lock = {"defaultRetention": {"mode": None, "period": None}, "isFileLockEnabled": bucket.has_lock}
    may_read = key is None or "readBucketRetentions" in key.capabilities
    return {
        **settings,
        "accountId": account.id,
        "bucketId": bucket.id,
        "bucketName": bucket.name,
        "options": ["s3"],
        "revision": bucket.revision,
        "defaultServerSideEncryption": {"isClientAuthorizedToRead": True, "value": encryption},
        "fileLockConfiguration": {"isClientAuthorizedToRead": may_read, "value": lock if may_read else None},
        "replicationConfiguration": {"isClientAuthorizedToRead": True, "value": None},
    }
