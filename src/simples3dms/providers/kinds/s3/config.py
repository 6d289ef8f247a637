"""What an S3 store is set up with, and the two clients made from it: never with keys from anywhere else."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from obstore.store import S3Store
from pydantic import Field, model_validator

from simples3dms.kit.secret import Secret
from simples3dms.providers.errors import BadCredential
from simples3dms.providers.registry import FormModel, NotBlank, Prefix, SecretField, Url

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 60
CONTROL_THREADS: Final = 4
_AWS_REGION: Final = re.compile(r"(af|ap|ca|cn|eu|il|me|mx|sa|us)(-gov|-iso[a-z]*)?-[a-z]+-\d")


class S3Settings(FormModel):
    """`endpoint` may be left out for a region of AWS itself."""

    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$")]
    endpoint: Url | None = None
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "us-east-1"
    prefix: Prefix = ""
    addressing: Literal["path", "virtual"] = "path"

    @model_validator(mode="after")
    def _endpoint_or_aws(self) -> Self:
        if self.endpoint is None and not ("region" in self.model_fields_set and _AWS_REGION.fullmatch(self.region)):
            raise ValueError("endpoint is required, unless region names a region of AWS")
        return self

    @property
    def url(self) -> str:
        """The endpoint without the bucket."""
        if self.endpoint is not None:
            return self.endpoint
        return f"https://s3.{self.region}.amazonaws.com{'.cn' if self.region.startswith('cn-') else ''}"

    @property
    def bucket_url(self) -> str:
        """The endpoint as obstore wants it: with the bucket in the host name when addressing is virtual."""
        if self.addressing == "path":
            return self.url
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{self.bucket}.{parts.netloc}"


class S3Credential(FormModel):
    """An access key. `session_token` only for temporary ones."""

    access_key_id: NotBlank
    secret_access_key: SecretField
    session_token: SecretField | None = None


def checked(credential: S3Credential) -> S3Credential:
    """The last of three refusals of blank keys: obstore would sign with the host's own identity (K7)."""
    secret = credential.secret_access_key
    if not isinstance(secret, Secret) or not secret.reveal().strip() or not credential.access_key_id.strip():
        raise BadCredential("an S3 store needs an access key id and a secret access key")
    return credential


def obstore_client(settings: S3Settings, credential: S3Credential, retries: int, proxy_url: str | None) -> S3Store:
    """obstore's client. Its own request timeout covers whole bodies, so it is off; ours are per chunk and by size."""
    checked(credential)
    client_options: dict[str, Any] = {
        "allow_http": settings.url.startswith("http:"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "timeout": timedelta(days=7),
    }
    if proxy_url is not None:
        client_options["proxy_url"] = proxy_url
    token: dict[str, Any] = {} if credential.session_token is None else {"token": credential.session_token.reveal()}
    keys: Any = {
        "access_key_id": credential.access_key_id,
        "secret_access_key": credential.secret_access_key.reveal(),
        "expires_at": None,
        **token,
    }
    return S3Store(
        settings.bucket,
        endpoint=settings.bucket_url,
        region=settings.region,
        virtual_hosted_style_request=settings.addressing == "virtual",
        # A provider of credentials, and not plain keys: nothing in the environment can then complete or replace them.
        credential_provider=lambda: keys,
        skip_signature=False,
        s3_express=False,
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={"max_retries": retries, "retry_timeout": timedelta(minutes=2)},
    )


def boto3_client(settings: S3Settings, credential: S3Credential, proxy_url: str | None) -> Any:
    """botocore's client, blind to profiles, configuration files and endpoint variables. Blocks for a moment."""
    checked(credential)
    nowhere = dict.fromkeys(("config_file", "credentials_file"), (None, None, "/dev/null", None)) | {
        "profile": (None, None, None, None)
    }
    config = Config(
        s3={"addressing_style": settings.addressing},
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONTROL_THREADS,
        proxies=None if proxy_url is None else {"http": proxy_url, "https": proxy_url},
        ignore_configured_endpoint_urls=True,
    )
    token = credential.session_token
    return botocore.session.Session(session_vars=nowhere).create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.url,
        aws_access_key_id=credential.access_key_id,
        aws_secret_access_key=credential.secret_access_key.reveal(),
        aws_session_token=None if token is None else token.reveal(),
        config=config,
    )
