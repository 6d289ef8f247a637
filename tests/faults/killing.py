"""What the tests have in common that kill at every fail-point."""

from __future__ import annotations

from tests.faults.installation import BUCKET, Installation

from simples3dms.kit.failpoints import FAIL_POINTS
from simples3dms.sandbox.listing import list_s3


def points(*protocols: str) -> list[str]:
    return [name for name in FAIL_POINTS if name.partition(".")[0] in protocols]


def slug(name: str) -> str:
    return name.replace(".", "-").replace("_", "-")


def copies_of(installation: Installation, prefix: str) -> list[str]:
    return [key for key in list_s3(installation.s3, BUCKET, prefix) if "/audit/" not in key]


def id_of(installation: Installation, tenant: str) -> str:
    with installation.connect() as client:
        return str(client.get_tenant(tenant).id)
