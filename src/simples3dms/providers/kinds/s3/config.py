"""What an S3 store is set up with, and the clients made from it: never with keys from anywhere else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import HTTPClientError
from botocore.loaders import Loader
from obstore.store import S3Store
from pydantic import AfterValidator, Field, model_validator
from urllib3.exceptions import HTTPError

from simples3dms.kit.secret import Secret
from simples3dms.providers.bounded import read_answer
from simples3dms.providers.errors import BadCredential
from simples3dms.providers.kinds.s3.profiles import PROFILES, Checksum, Profile
from simples3dms.providers.registry import BuildOptions, FormModel, NotBlank, ObjectLockUse, Prefix, SecretField, Url
from simples3dms.providers.threads import check_wanted

_AWS_REGION: Final = re.compile(r"(af|ap|ca|cn|eu|il|me|mx|sa|us)(-gov|-iso[a-z]*)?-[a-z]+-\d")
_ROLE_ARN: Final = r"^arn:[a-z0-9-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$"
_EXTERNAL_ID: Final = r"^[A-Za-z0-9_+=,.@:/-]+$"
_HTTP: Final = re.compile(r"^https?://", re.IGNORECASE)
_Text = TypeVar("_Text", str, Secret)
Service = Literal["other", "aws", "b2", "r2", "wasabi", "minio", "ceph", "seaweedfs", "rclone", "gcs"]


def _customer_key(value: Secret) -> Secret:
    try:
        raw = base64.b64decode(value.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be 32 bytes in base64")
    return value


def _sendable(value: _Text) -> _Text:
    """What goes into a header. obstore would not refuse it, but panic."""
    text = value.reveal() if isinstance(value, Secret) else value
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be printable ASCII, without spaces")
    return value


class S3Settings(FormModel):
    """`endpoint` may be left out for a region of AWS itself. What is left out comes from the service's profile."""

    bucket: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$", description="The bucket's name.")
    ]
    endpoint: Url | None = Field(default=None, description="http(s)://host[:port]; empty for a region of AWS.")
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = Field(
        default="us-east-1", description="The region that requests are signed for."
    )
    prefix: Prefix = Field(default="", description="A folder of the bucket; nothing outside it is ever touched.")
    service: Service = Field(default="other", description="Which service it is: decides limits and manners.")
    addressing: Literal["path", "virtual"] | None = Field(
        default=None, description="Bucket in the path or in the host name. Empty: as the service is used to."
    )
    storage_class: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,40}$")] | None = Field(
        default=None, description="The storage class of what is written, such as STANDARD_IA."
    )
    encryption: Literal["none", "SSE-S3", "SSE-KMS", "SSE-C"] = Field(
        default="none", description="Encryption at the service beyond its own default."
    )
    kms_key_id: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=2048)] | None = Field(
        default=None, description="For SSE-KMS: the key; empty for the account's own."
    )
    checksum: Checksum | None = Field(
        default=None, description="A checksum header on uploads. Empty: as the service's profile says."
    )
    signing: bool | None = Field(
        default=None,
        description="Whether requests may be signed for others. Off where the service does not compare signatures; "
        "empty: as its profile says.",
    )
    object_lock: ObjectLockUse = None
    part_size_mib: Annotated[int, Field(ge=5, le=1024)] = Field(
        default=8, description="Size of the parts of large objects; grows by itself for very large ones."
    )
    role_arn: Annotated[str, Field(pattern=_ROLE_ARN, max_length=700)] | None = Field(
        default=None, description="A role to assume with the access key; its temporary keys sign then."
    )
    external_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@:/-]+$", min_length=2, max_length=1224)] | None = (
        Field(default=None, description="The external id that the role demands.")
    )
    sts_endpoint: Url | None = Field(default=None, description="Where roles are assumed; empty for AWS's own.")
    iam_endpoint: Url | None = Field(
        default=None, description="Where access keys are managed; empty for AWS's own, or for none elsewhere."
    )
    iam_user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{1,64}$")] | None = Field(
        default=None, description="The user whose access keys they are; empty: asked by the key, which not all answer."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.endpoint is None and not ("region" in self.model_fields_set and _AWS_REGION.fullmatch(self.region)):
            raise ValueError("endpoint is required, unless region names a region of AWS")
        if self.encryption == "SSE-C" and self.url.startswith("http:") and not _is_loopback(self.url):
            raise ValueError("SSE-C sends its key with each request: the endpoint must be https")
        if self.kms_key_id is not None and self.encryption != "SSE-KMS":
            raise ValueError("kms_key_id needs encryption SSE-KMS")
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id needs role_arn")
        return self

    @property
    def profile(self) -> Profile:
        return PROFILES["aws" if self.endpoint is None and self.service == "other" else self.service]

    @property
    def is_virtual(self) -> bool:
        return (self.addressing or self.profile.addressing) == "virtual" and "." not in self.bucket

    @property
    def checksum_mode(self) -> Checksum:
        return self.checksum or self.profile.checksum

    @property
    def url(self) -> str:
        """The endpoint without the bucket."""
        if self.endpoint is not None:
            return self.endpoint
        return f"https://s3.{self.region}.amazonaws.com{'.cn' if self.region.startswith('cn-') else ''}"

    @property
    def destinations(self) -> list[str]:
        """Where requests go: the endpoint, its buckets' own hosts, and where the role is assumed."""
        urls = [self.url] if self.role_arn is None else [self.url, self.sts_url]
        urls += [self.iam_url] if self.has_iam else []
        scheme, _, rest = self.url.partition("://")
        return [*urls, f"{scheme}://*.{rest}"] if self.is_virtual else urls

    @property
    def has_iam(self) -> bool:
        """Whether there is an API for the access keys."""
        return self.iam_endpoint is not None or self.profile is PROFILES["aws"]

    @property
    def iam_url(self) -> str:
        return self.iam_endpoint or "https://iam.amazonaws.com"

    @property
    def sts_url(self) -> str:
        return self.sts_endpoint or f"https://sts.{self.region}.amazonaws.com"

    @property
    def bucket_url(self) -> str:
        """The endpoint as obstore wants it: with the bucket in the host name when addressing is virtual."""
        if not self.is_virtual:
            return self.url
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{self.bucket}.{parts.netloc}"


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


class S3Credential(FormModel):
    """An access key. `session_token` only for temporary ones; `customer_key` only for SSE-C."""

    access_key_id: Annotated[NotBlank, AfterValidator(_sendable)]
    secret_access_key: SecretField
    session_token: Annotated[SecretField, AfterValidator(_sendable)] | None = None
    customer_key: Annotated[SecretField, AfterValidator(_customer_key)] | None = None


def checked(credential: S3Credential) -> S3Credential:
    """The last of three refusals of blank keys: obstore would sign with the host's own identity (K7)."""
    secret = credential.secret_access_key
    if not isinstance(secret, Secret) or not secret.reveal().strip() or not credential.access_key_id.strip():
        raise BadCredential("an S3 store needs an access key id and a secret access key")
    return credential


def obstore_client(settings: S3Settings, credential: S3Credential, keys: Any, options: BuildOptions) -> S3Store:
    """obstore's client. Its own request timeout covers whole bodies, so it is off, as are its repeats: ours count."""
    checked(credential)
    client_options: dict[str, Any] = {
        "allow_http": _HTTP.match(settings.url) is not None and settings.url.startswith("http:"),
        "connect_timeout": timedelta(seconds=options.connect_seconds),
        "read_timeout": timedelta(seconds=options.read_seconds),
        "timeout": timedelta(days=7),
    }
    if options.proxy_url is not None:
        client_options["proxy_url"] = options.proxy_url
    config: dict[str, Any] = {}
    if settings.encryption == "SSE-S3":
        config["server_side_encryption"] = "AES256"
    elif settings.encryption == "SSE-KMS":
        config["server_side_encryption"] = "aws:kms"
        if settings.kms_key_id is not None:
            config["sse_kms_key_id"] = settings.kms_key_id
    elif settings.encryption == "SSE-C" and credential.customer_key is not None:
        config["server_side_encryption"] = "sse-c"
        config["sse_customer_key_base64"] = credential.customer_key.reveal()
    if settings.checksum_mode == "sha256":
        config["checksum_algorithm"] = "SHA256"
    return S3Store(
        settings.bucket,
        endpoint=settings.bucket_url,
        # The environment's AWS_ENDPOINT_URL_S3 would otherwise win over the endpoint, and get our signed requests.
        aws_endpoint_url_s3=settings.bucket_url,
        region=settings.region,
        virtual_hosted_style_request=settings.is_virtual,
        # A provider of credentials, and not plain keys: nothing in the environment can then complete or replace them.
        credential_provider=keys,
        skip_signature=False,
        s3_express=False,
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
        **config,
    )


def blind_session() -> botocore.session.Session:
    """A botocore session that sees no profile, no configuration file, no models but its own, no metadata service."""
    nowhere = dict.fromkeys(("config_file", "credentials_file"), (None, None, "/dev/null", None)) | {
        "profile": (None, None, None, None)
    }
    session = botocore.session.Session(session_vars=nowhere)
    session.register_component("data_loader", service_models())
    return session


@cache
def service_models() -> Loader:
    """What botocore knows of services, read once for all clients: each would read it anew, for a sixth of a second."""
    return Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)


def boto_config(settings: S3Settings, options: BuildOptions) -> Config:
    proxies = None if options.proxy_url is None else {"http": options.proxy_url, "https": options.proxy_url}
    return Config(
        s3={"addressing_style": "virtual" if settings.is_virtual else "path"},
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=options.most_concurrent,
        proxies=proxies,
        ignore_configured_endpoint_urls=True,
    )


def boto3_client(settings: S3Settings, credential: S3Credential, keys: Any, options: BuildOptions) -> Any:
    """botocore's client, blind to profiles, configuration files and endpoint variables. Blocks for a moment."""
    checked(credential)
    session = blind_session()
    session._credentials = keys.botocore_credentials()  # no public way in
    client = session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.url,
        verify=options.ca_file,
        config=boto_config(settings, options),
    )
    # Content-MD5 is what every service takes where one is demanded; several refuse the newer checksum headers.
    for operation in ("DeleteObjects", "PutObjectRetention", "PutObjectLegalHold"):
        client.meta.events.register(f"before-sign.s3.{operation}", _md5_instead_of_checksum)
    client.meta.events.register("before-sign.s3.UploadPart", _sign_the_checksum)
    return bounded(client, options)


def bounded(client: Any, options: BuildOptions) -> Any:
    """The client, with an end to every answer that is not an object's bytes."""
    session = client._endpoint.http_session  # no public way in
    send, seconds = session.send, options.connect_seconds + options.read_seconds

    def work(request: Any) -> Any:
        check_wanted()
        wants_stream, request.stream_output = request.stream_output, True
        response = send(request)
        if not wants_stream or response.status_code >= 300:
            try:
                response._content = read_answer(response.raw, seconds=seconds)
            except HTTPError as error:
                raise HTTPClientError(error=error) from error
        return response

    session.send = work
    return client


def _sign_the_checksum(request: Any, **_: Any) -> None:
    """A part's bytes are vouched for by its Content-MD5, which is signed: they need no second hash in the signature.

    So does botocore by itself where the endpoint is https. The handler sees the request's own context, no other's.
    """
    if "Content-MD5" in request.headers:
        request.context["client_config"] = Config(s3={"payload_signing_enabled": False})


def _md5_instead_of_checksum(request: Any, **_: Any) -> None:
    for name in [name for name in request.headers if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-"))]:
        del request.headers[name]
    body = request.data if isinstance(request.data, bytes) else str(request.data).encode()
    request.headers["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
