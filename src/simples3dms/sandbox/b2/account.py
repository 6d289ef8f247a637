"""What every call works on: the account's records and bytes, and the check of who may do what."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simples3dms.sandbox.b2.blobs import Blobs
from simples3dms.sandbox.b2.errors import B2Error, bad_request, not_found, unauthorized
from simples3dms.sandbox.b2.files import File, Files
from simples3dms.sandbox.b2.http import Request
from simples3dms.sandbox.b2.records import Bucket, Key, Records, now_ms
from simples3dms.sandbox.b2.tokens import Claims, Kind, Tokens

CREDENTIALS_FILE = "credentials.json"
TOKEN_SECONDS = 24 * 3600.0
CAPABILITIES = frozenset(
    {
        *("listKeys", "writeKeys", "deleteKeys", "listAllBucketNames", "listBuckets", "readBuckets", "writeBuckets"),
        *("deleteBuckets", "readBucketEncryption", "writeBucketEncryption", "listFiles", "readFiles", "shareFiles"),
        *("writeFiles", "deleteFiles", "readBucketRetentions", "writeBucketRetentions"),
        *("readFileRetentions", "writeFileRetentions", "readFileLegalHolds", "writeFileLegalHolds"),
        "bypassGovernance",
    }
)
_DEFAULTS: dict[str, Any] = {"bucketType": "allPrivate", "bucketInfo": {}, "corsRules": [], "lifecycleRules": []}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Made up once per directory and kept there, so that a restarted server knows its clients."""

    account_id: str
    application_key_id: str
    application_key: str
    control_token: str

    @classmethod
    def make(cls) -> Credentials:
        account_id = secrets.token_hex(6)
        key_id = f"005{account_id}{secrets.randbelow(10**10):010d}"
        return cls(account_id, key_id, f"K005{secrets.token_urlsafe(24)}", secrets.token_urlsafe(24))

    @classmethod
    def parse(cls, text: str) -> Credentials:
        return cls(**json.loads(text))

    def dump(self) -> str:
        return json.dumps(asdict(self))


class Account:
    """The one account of a server."""

    def __init__(self, directory: Path, credentials: Credentials) -> None:
        self.id = credentials.account_id
        self.master_key_id = credentials.application_key_id
        # Upload URLs at which an upload is going on: each is for one at a time.
        self.busy_uploads: set[str] = set()
        self.records = Records(directory / "records.sqlite")
        self.blobs = Blobs(directory)
        self.files = Files(self.records, self.blobs)
        secret = bytes.fromhex(self.records.get_meta("token_secret", secrets.token_hex(32)))
        self.tokens = Tokens(secret, int(self.records.get_meta("token_generation", "1")))
        master = Key(credentials.application_key_id, credentials.application_key, "master", CAPABILITIES)
        self.records.put_key(master)

    def expire_tokens(self) -> None:
        """Every token given out so far has expired."""
        self.tokens.generation += 1
        self.records.set_meta("token_generation", str(self.tokens.generation))

    def add_bucket(self, name: str, settings: Mapping[str, Any]) -> Bucket:
        # B2 wants at least 6 characters; shorter names do no harm here.
        if not 3 <= len(name) <= 63 or not name.replace("-", "").isalnum() or not name.isascii():
            raise bad_request("Bucket names have letters, digits and hyphens.", "invalid_bucket_name")
        if self.records.find_bucket(name=name) is not None:
            raise bad_request("Bucket name is already in use.", "duplicate_bucket_name")
        return self.records.add_bucket(name, {**_DEFAULTS, **settings})

    def get_bucket(self, bucket_id: str) -> Bucket:
        bucket = self.records.find_bucket(bucket_id=bucket_id)
        if bucket is None:
            raise bad_request(f"Bucket {bucket_id} does not exist", "bad_bucket_id")
        return bucket

    def get_file(self, file_id: str) -> File:
        if not file_id.startswith("4_z"):
            raise bad_request(f"Bad fileId: {file_id}")
        file = self.files.find(file_id)
        if file is None:
            raise not_found(f"File {file_id}")
        return file

    def get_unfinished(self, file_id: str) -> File:
        file = self.files.find(file_id)
        if file is None or file.action != "start":
            raise bad_request(f"No active upload for: {file_id}")
        return file

    def log_in(self, request: Request) -> Key:
        """The key of a Basic authorisation."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            key_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise unauthorized("The authorization is malformed.") from error
        key = self.records.find_key(key_id)
        known = secrets.compare_digest(secret.encode(), key.secret.encode() if key else b"")
        if scheme != "Basic" or key is None or not known or _is_over(key):
            raise unauthorized("invalid application key or key id")
        return key

    def read_token(self, request: Request, *kinds: Kind) -> tuple[Claims, Key]:
        """The claims of the request's token and their key, which may have ended since."""
        token = request.headers.get("authorization") or request.query.get("Authorization", "")
        claims = self.tokens.read(token, *kinds)
        key = self.records.find_key(claims.key_id)
        if key is None:
            raise B2Error(401, "bad_auth_token", "Invalid authorization token")
        if _is_over(key):
            raise B2Error(401, "expired_auth_token", "Authorization token has expired")
        return claims, key

    def authorize(
        self, request: Request, capability: str, *, bucket_id: str | None = None, name: str | None = None
    ) -> Key:
        """The key that may do this in this bucket, under this name or prefix."""
        _, key = self.read_token(request, "account")
        check_rights(key, capability, bucket_id=bucket_id, name=name)
        return key


def check_rights(key: Key, capability: str, *, bucket_id: str | None, name: str | None) -> None:
    if capability not in key.capabilities:
        raise unauthorized(f"not entitled: {capability}")
    if bucket_id is not None and key.bucket_ids is not None and bucket_id not in key.bucket_ids:
        raise unauthorized("not entitled: another bucket")
    if name is not None and key.prefix and not name.startswith(key.prefix):
        raise unauthorized("not entitled: another prefix")


def check_name(name: str) -> None:
    """The rules for file names: https://www.backblaze.com/docs/cloud-storage-files"""
    size = len(name.encode())
    if not 1 <= size <= 1024 or name[0] == "/" or name[-1] == "/" or "//" in name:
        raise bad_request(f"Bad file name: {name[:100]!r}")
    if min(name) < " " or "\x7f" in name:
        raise bad_request("File names must not contain control characters.")
    if size > 250 and max(len(segment.encode()) for segment in name.split("/")) > 250:
        raise bad_request("File name segments are at most 250 bytes long.")


def _is_over(key: Key) -> bool:
    return key.expires_at is not None and key.expires_at <= now_ms()
