"""What the probe asks an S3 store beyond the behaviours of every kind: quirks that cost users of others their data."""

from __future__ import annotations

import base64
import hashlib
import ssl
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from simples3dms.providers.base import Finding
from simples3dms.providers.kinds.s3 import control
from simples3dms.providers.registry import BuildOptions

_BODY: Final = b"what the probe writes"
_OTHER: Final = b"what the probe does not write"
_MOST_READ: Final = 1000
_MOST_PAGES: Final = 5
_SKEW_AMBER_SECONDS: Final = 60
_SKEW_RED_SECONDS: Final = 600
Verdict = Literal["green", "amber", "red"]


class Inspector:
    """One bucket, asked with one client. Everything blocks; what it writes lies below `scratch` (a full path)."""

    def __init__(
        self,
        s3: Any,
        bucket: str,
        scratch: str,
        options: BuildOptions,
        *,
        locks: bool = False,
        sha256: bool = False,
    ) -> None:
        """`locks`: the store's settings say that objects are locked there. `sha256`: that it is to keep a SHA-256."""
        self._s3, self._bucket, self._scratch = s3, bucket, scratch
        self._options = options
        self._locks = locks
        self._sha256 = sha256

    def run(self) -> list[Finding]:
        looks: list[Callable[[], Finding]] = [
            self.clock,
            self.checksums,
            self.ranges,
            self.paging,
            self.conditional_put,
            self.presigned_copy_source,
            self.versioning,
            self.object_lock,
            self.scope,
        ]
        if self._sha256:
            looks += [self.reported_checksum, self.checksum_of_a_copy]
        return [self._look(one) for one in looks]

    def _look(self, one: Callable[[], Finding]) -> Finding:
        try:
            return one()
        except (ClientError, BotoCoreError, httpx.HTTPError, OSError) as error:
            code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else type(error).__name__
            name = one.__name__.replace("_", " ")
            return Finding(name, "amber", (one.__doc__ or "").strip(), f"could not be found out ({code})")

    def _found(self, one: Callable[[], Finding], verdict: Verdict, detail: str) -> Finding:
        return Finding(one.__name__.replace("_", " "), verdict, (one.__doc__ or "").strip(), detail)

    def clock(self) -> Finding:
        """The store's clock and ours agree: signatures are refused beyond a quarter of an hour."""
        answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._scratch, MaxKeys=1)
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if told is None:
            return self._found(self.clock, "amber", "the store does not say what time it is")
        skew = abs((datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds())
        verdict: Verdict = "green" if skew < _SKEW_AMBER_SECONDS else "amber" if skew < _SKEW_RED_SECONDS else "red"
        return self._found(self.clock, verdict, f"{skew:.0f} s apart")

    def checksums(self) -> Finding:
        """Which checksums the store compares itself: a right one is taken, a wrong one refused, the bytes unharmed."""
        honoured, refused, ignored = [], [], []
        for mode in ("crc32", "crc32c", "crc64nvme", "sha256"):
            key = f"{self._scratch}checksum-{mode}"
            try:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=_BODY, **_header(_BODY, mode))
            except ClientError:
                refused.append(mode)
                continue
            if self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read(_MOST_READ) != _BODY:
                return self._found(
                    self.checksums, "red", f"with {mode} the store keeps other bytes than were sent: leave it off"
                )
            try:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=_BODY, **_header(_OTHER, mode))
                ignored.append(mode)
            except ClientError:
                honoured.append(mode)
        parts = [("compares", honoured), ("takes and ignores", ignored), ("refuses", refused)]
        detail = "; ".join(f"{verb} {', '.join(modes)}" for verb, modes in parts if modes)
        # We compare every byte ourselves; the store's own comparison only tells sooner.
        return self._found(self.checksums, "green" if honoured else "amber", detail)

    def reported_checksum(self) -> Finding:
        """The SHA-256 that the store reports is its own: a wrong one is refused, and the right one is told later."""
        key = f"{self._scratch}reported"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=_BODY, **_header(_BODY, "sha256"))
        told = self._told_sha256(key)
        try:
            self._s3.put_object(Bucket=self._bucket, Key=f"{key}-wrong", Body=_BODY, **_header(_OTHER, "sha256"))
        except ClientError:
            if told == hashlib.sha256(_BODY).hexdigest():
                return self._found(self.reported_checksum, "green", "")
            return self._found(self.reported_checksum, "amber", "it tells none, or another: copies are read back")
        return self._found(self.reported_checksum, "amber", "it repeats whatever it was told: copies are read back")

    def checksum_of_a_copy(self) -> Finding:
        """Of a copy inside the store the SHA-256 is computed anew: it may be carried along, whatever the bytes."""
        source, key = f"{self._scratch}without", f"{self._scratch}copied"
        self._s3.put_object(Bucket=self._bucket, Key=source, Body=_BODY)
        place = {"Bucket": self._bucket, "Key": source}
        self._s3.copy_object(Bucket=self._bucket, Key=key, CopySource=place, ChecksumAlgorithm="SHA256")
        if self._told_sha256(key) == hashlib.sha256(_BODY).hexdigest():
            return self._found(self.checksum_of_a_copy, "green", "")
        return self._found(self.checksum_of_a_copy, "amber", "it is not: copies inside the store are read back")

    def _told_sha256(self, key: str) -> str | None:
        return control.told_sha256(self._s3.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED"))

    def ranges(self) -> Finding:
        """A range is answered with that range: else each part of a large object costs all of it."""
        key = f"{self._scratch}range"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=_BODY)
        answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range="bytes=5-9")
        body = answer["Body"].read(_MOST_READ)
        if body == _BODY[5:10] and answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
            return self._found(self.ranges, "green", "")
        return self._found(self.ranges, "amber", "the whole object comes; downloads of parts will be slow")

    def paging(self) -> Finding:
        """A listing that does not fit on a page goes on: else what lies beyond the first page is taken for missing."""
        place = f"{self._scratch}paging/"
        for number in range(3):
            self._s3.put_object(Bucket=self._bucket, Key=f"{place}{number}", Body=_BODY)
        verdict: Verdict = "green"
        detail = ""
        for versioned in (False, True):
            try:
                told = self._page_through(place, versioned=versioned)
            except ClientError:
                continue  # the service has no such listing
            if told != 3:
                name = "versions" if versioned else "objects"
                verdict, detail = "red", f"of 3 objects in pages of 2, its list of {name} tells {told}"
        return self._found(self.paging, verdict, detail)

    def _page_through(self, place: str, *, versioned: bool) -> int:
        keys: list[str] = []
        cursor = None
        for _ in range(_MOST_PAGES):
            page = control.list_page(self._s3, self._bucket, place, "", cursor, None, versioned=versioned, limit=2)
            keys += [info.key for info in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        return len(keys)

    def conditional_put(self) -> Finding:
        """`If-None-Match: *` keeps a second write off. We never rely on it: keys are written once."""
        key = f"{self._scratch}once"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=_BODY)
        try:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=_OTHER, IfNoneMatch="*")
        except ClientError as error:
            code = error.response["ResponseMetadata"].get("HTTPStatusCode")
            detail = "" if code == 412 else f"refused with {code}"
            return self._found(self.conditional_put, "green" if code == 412 else "amber", detail)
        return self._found(self.conditional_put, "amber", "the store takes the header and overwrites")

    def presigned_copy_source(self) -> Finding:
        """A signed upload with `x-amz-copy-source` added is refused: else its holder copies what they may not read."""
        source, key = f"{self._scratch}copy-source", f"{self._scratch}copy-target"
        self._s3.put_object(Bucket=self._bucket, Key=source, Body=b"secret")
        url = self._s3.generate_presigned_url(
            "put_object", Params={"Bucket": self._bucket, "Key": key, "ContentLength": 0}, ExpiresIn=60
        )
        context = ssl.create_default_context(cafile=self._options.ca_file)
        headers = {"x-amz-copy-source": f"/{self._bucket}/{source}", "Content-Length": "0"}
        with (
            httpx.Client(trust_env=False, timeout=30, proxy=self._options.proxy_url, verify=context) as client,
            client.stream("PUT", url, headers=headers),
        ):
            pass  # what it answers does not matter, and could be long
        try:
            copied = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read(_MOST_READ) == b"secret"
        except ClientError:
            copied = False
        if copied:
            return self._found(
                self.presigned_copy_source, "amber", "the store obeys it: uploads straight to this store stay off"
            )
        return self._found(self.presigned_copy_source, "green", "")

    def versioning(self) -> Finding:
        """Whether the bucket keeps versions: then deletes need their ids, and hidden ones are billed."""
        found = self._s3.get_bucket_versioning(Bucket=self._bucket).get("Status")
        if found == "Enabled":
            return self._found(self.versioning, "green", "versions are kept; we delete each by its id")
        if found == "Suspended":
            return self._found(self.versioning, "amber", "suspended: old versions stay and are billed until removed")
        return self._found(self.versioning, "green", "no versions are kept")

    def object_lock(self) -> Finding:
        """The bucket's object lock: whether what is held or retained is kept by the store as well."""
        try:
            asked = self._s3.get_object_lock_configuration(Bucket=self._bucket)
            told = asked.get("ObjectLockConfiguration") or {}
        except ClientError as error:
            if error.response["ResponseMetadata"].get("HTTPStatusCode") not in (404, 501):
                raise
            told = {}
        if told.get("ObjectLockEnabled") != "Enabled":
            detail = "the bucket has none: it is turned on when a bucket is made"
            return self._found(self.object_lock, "red", detail) if self._locks else self._off("the bucket has none")
        if (told.get("Rule") or {}).get("DefaultRetention"):
            detail = "the bucket retains all that is written: nothing can be removed there before that is over"
            return self._found(self.object_lock, "amber", detail)
        return self._found(self.object_lock, "green", "") if self._locks else self._off("offered and not used")

    def _off(self, detail: str) -> Finding:
        return self._found(self.object_lock, "green", detail)

    def scope(self) -> Finding:
        """The key is for this bucket alone: a key that opens others is a greater loss if it leaks."""
        try:
            others = [one["Name"] for one in self._s3.list_buckets().get("Buckets", ()) if one["Name"] != self._bucket]
        except ClientError:
            return self._found(self.scope, "green", "")
        if not others:
            return self._found(self.scope, "green", "")
        return self._found(self.scope, "amber", f"the key sees {len(others)} other buckets: make one for this bucket")


def _header(body: bytes, mode: str) -> dict[str, Any]:
    if mode == "crc32":
        return {"ChecksumCRC32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()}
    if mode == "sha256":
        return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
    return control.checksum_of(body, mode)
