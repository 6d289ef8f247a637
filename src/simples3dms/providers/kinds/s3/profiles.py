"""Known services that speak S3: how each differs from AWS, as their own pages say.

The setting `service` chooses one. It is what a kind declares before the probe has looked; other settings override it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

GIB: Final = 2**30
TIB: Final = 2**40
WEEK_SECONDS: Final = 604_800
Checksum = Literal["none", "crc32c", "crc64nvme", "sha256"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One service's traits. Sizes in bytes."""

    title: str
    largest_object_bytes: int = 5 * TIB
    largest_put_bytes: int = 5 * GIB
    most_parts: int = 10_000
    smallest_part_bytes: int = 5 * 2**20
    addressing: Literal["path", "virtual"] = "path"
    checksum: Checksum = "none"
    server_side_copy: bool = True
    copies_in_parts: bool = True
    """Objects too large for one CopyObject can be copied by UploadPartCopy."""
    deletes_many: bool = True
    signs: bool = True
    replaces_parts: bool = True
    notes: tuple[str, ...] = ()


#: Name of the service, as the setting `service` takes it -> its traits.
PROFILES: Final[dict[str, Profile]] = {
    "other": Profile("Another service that speaks S3", notes=("nothing is assumed: run the probe",)),
    "aws": Profile(
        "Amazon S3",
        largest_object_bytes=50 * 10**12,
        addressing="virtual",
        notes=("LIST is billed like a write",),
    ),
    "b2": Profile(
        "Backblaze B2 (S3-compatible)",
        largest_object_bytes=10 * 10**12,
        notes=(
            "always keeps versions; a delete without a version id only hides",
            "refuses checksum headers; its master key does not work here",
            "throttles with 503 SlowDown",
        ),
    ),
    "r2": Profile(
        "Cloudflare R2",
        largest_object_bytes=int(4.995 * TIB),
        largest_put_bytes=int(4.995 * GIB),
        notes=("all parts but the last must have one size", "keeps no versions"),
    ),
    "wasabi": Profile(
        "Wasabi",
        largest_object_bytes=5 * 10**12,
        notes=("bills each object for 90 days at least, and 4 KB at least",),
    ),
    "minio": Profile("MinIO and its relatives", largest_object_bytes=5 * TIB),
    "ceph": Profile("Ceph Object Gateway", largest_object_bytes=5 * TIB),
    "seaweedfs": Profile(
        "SeaweedFS",
        notes=(
            "lists in another order than that of bytes; of versions, pages may leave out keys at such borders",
            "serves ranges faster than whole large objects",
        ),
    ),
    "rclone": Profile(
        "rclone serve s3",
        signs=False,
        replaces_parts=False,
        notes=("ignores ranges, so downloads of parts are slow", "a part whose answer was lost can't be sent again"),
    ),
    "gcs": Profile(
        "Google Cloud Storage (XML API)",
        copies_in_parts=False,
        deletes_many=False,
        notes=("no DeleteObjects, and no copy of parts", "its signatures break when a proxy changes Accept-Encoding"),
    ),
}
