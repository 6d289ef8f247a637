"""The kind `s3`: what it is called, what is typed in for it, and what is made of that."""

from __future__ import annotations

from simples3dms.providers.kinds.s3.config import S3Credential, S3Settings
from simples3dms.providers.kinds.s3.iam import IamKeys
from simples3dms.providers.kinds.s3.provider import S3Provider
from simples3dms.providers.registry import BuildOptions, ProviderKind


def _build(settings: S3Settings, credential: S3Credential, options: BuildOptions) -> S3Provider:
    return S3Provider(settings, credential, options)


def _manage_keys(
    settings: S3Settings, signing: S3Credential, own: S3Credential, options: BuildOptions
) -> IamKeys | None:
    return IamKeys(settings, signing, own, options) if settings.has_iam else None


KIND = ProviderKind(
    name="s3",
    title="Amazon S3 and everything that speaks S3",
    settings_model=S3Settings,
    credential_model=S3Credential,
    build=_build,
    destinations=lambda settings: settings.destinations,
    manage_keys=_manage_keys,
    key_id_field="access_key_id",
)
