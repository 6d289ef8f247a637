"""The `s3` kind: Amazon S3 and everything that speaks S3."""

from simples3dms.providers.kinds.s3.config import S3Credential, S3Settings
from simples3dms.providers.kinds.s3.kind import KIND
from simples3dms.providers.kinds.s3.provider import S3Provider

__all__ = ["KIND", "S3Credential", "S3Provider", "S3Settings"]
