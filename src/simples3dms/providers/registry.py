"""Provider kinds by name: what each is set up with, and how a provider is made from that.

Built-in kinds and plug-ins are found in the same way, as entry points; loading one imports its vendor's library,
so nothing is loaded before it is asked for. A plug-in registers a `ProviderKind` under the group below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic import ValidationError as PydanticError

from simples3dms.errors import Invalid
from simples3dms.kit.secret import Secret
from simples3dms.providers.base import StorageProvider, check_key
from simples3dms.providers.errors import Unsupported
from simples3dms.providers.keys import KeyManagement

ENTRY_POINT_GROUP: Final = "simples3dms.providers"
_BUILT_IN: Final[Mapping[str, str]] = {
    "azure": "simples3dms.providers.kinds.cloud.azure:KIND",
    "b2": "simples3dms.providers.kinds.b2:KIND",
    "gcs": "simples3dms.providers.kinds.cloud.gcs:KIND",
    "local": "simples3dms.providers.kinds.local:KIND",
    "memory": "simples3dms.providers.kinds.memory:KIND",
    "s3": "simples3dms.providers.kinds.s3:KIND",
}


def _secret(value: object) -> Secret:
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError("must not be blank")
    return Secret(text.strip())


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value.strip()


def _prefix(value: str) -> str:
    trimmed = value.strip().strip("/")
    try:
        return f"{check_key(trimmed)}/" if trimmed else ""
    except Unsupported as error:
        raise ValueError(error.message) from None


def check_url(value: str) -> str:
    """`http(s)://host[:port]`, as it is kept. ValueError for anything else."""
    parts = urlsplit(value.strip())
    try:
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if (
        not usable
        or not value.isascii()
        or parts.username is not None
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise ValueError("must be http(s)://host or http(s)://host:port, with nothing after it")
    return f"{parts.scheme}://{parts.netloc}"


#: A secret typed by a person: never blank, printed as stars, and written only in a JSON schema's sense.
SecretField = Annotated[
    Secret,
    PlainValidator(_secret),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "password", "writeOnly": True, "minLength": 1}),
]
NotBlank = Annotated[str, AfterValidator(_not_blank)]
#: A place inside a bucket or directory: stored as `a/b/`, or empty.
Prefix = Annotated[str, AfterValidator(_prefix)]
Url = Annotated[str, AfterValidator(check_url)]


class FormModel(BaseModel):
    """What a person types in to set up a store: unknown fields are refused, and inputs never show in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


#: Whether a store itself keeps what is held or retained, and how hard at most. None: it does not.
ObjectLockUse = Annotated[
    Literal["governance", "compliance"] | None,
    Field(
        description="Hold and retain objects at the store as well, in this mode at most. Left out: not at all. "
        "`compliance` can be undone by nobody before its time."
    ),
]


class NoCredential(FormModel):
    """For kinds that need none."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the process, not the store's owner, decides. Times in seconds."""

    proxy_url: str | None = None
    """The egress guard that all traffic takes; it may hold a password. None: straight out."""
    ca_file: str | None = None
    """Certificates of the authorities that are trusted (PEM). None: the machine's own. obstore reads the environment's
    `SSL_CERT_FILE` instead, so whoever sets this sets that, too."""
    most_concurrent: int = 128
    """Calls that the layers let through at a time: a client has a thread for each, so that none waits for another."""
    connect_seconds: float = 10
    read_seconds: float = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKind:
    """One kind of storage service: its two forms and its factory. `build` gets models that passed validation."""

    name: str
    title: str
    settings_model: type[FormModel]
    credential_model: type[FormModel]
    build: Callable[[Any, Any, BuildOptions], StorageProvider]
    destinations: Callable[[Any], Sequence[str]] | None = None
    """From the settings, where its connections go: `https://host[:port]`, or `https://*.host` for all below a host.
    Through the egress guard a store reaches these only. None: the kind does not promise to use `proxy_url`, so it
    can't be used where the guard is required. Empty: it makes no connections."""
    settle: Callable[[Any], Mapping[str, object]] | None = None
    """Called once, when a store that passed its probe is saved: what is to be saved of its settings besides, such as
    a mark by which the place is known again. It may block, and may raise a ProviderError."""
    settled: frozenset[str] = frozenset()
    """The settings that `settle` fills in."""
    manage_keys: Callable[[Any, Any, Any, BuildOptions], KeyManagement | None] | None = None
    """From settings, the credential that signs key management, and the store's own: None where the provider has no
    API for its keys, or the settings name none."""
    key_id_field: str | None = None
    """The field of the credential that says, to the provider, which key it is."""

    def validate_settings(self, settings: Mapping[str, object]) -> FormModel:
        """The settings as a model; raises Invalid `store_settings_invalid` with `fields`."""
        return _validated(
            self.settings_model, settings, "store_settings_invalid", "The store's settings are not valid."
        )

    def validate_credential(self, credential: Mapping[str, object] | None) -> FormModel:
        """The credential as a model; raises Invalid `credential_invalid` with `fields`, never showing a value."""
        return _validated(
            self.credential_model, credential or {}, "credential_invalid", "The store's credential is not valid."
        )

    def public_settings_schema(self) -> dict[str, Any]:
        """JSON schema of the settings: for forms and documentation."""
        return self.settings_model.model_json_schema()

    def credential_schema(self) -> dict[str, Any]:
        """JSON schema of the credential: which fields there are, and which of them are secret (`writeOnly`)."""
        return self.credential_model.model_json_schema()

    def create(
        self,
        settings: Mapping[str, object] | FormModel,
        credential: Mapping[str, object] | FormModel | None = None,
        *,
        options: BuildOptions | None = None,
    ) -> StorageProvider:
        """A provider for one store, not yet connected: `check` says whether it works."""
        chosen = self.validate_settings(_as_mapping(settings))
        key = self.validate_credential(_as_mapping(credential))
        return self.build(chosen, key, options or BuildOptions())


def list_kinds() -> list[str]:
    """The names of all kinds, built in and plugged in, in alphabetical order. Loads none of them."""
    return sorted(_entry_points())


def get_kind(name: str) -> ProviderKind:
    """The kind of that name; raises Invalid `store_kind_unknown` if there is none."""
    found = _entry_points().get(name)
    if found is None:
        known = list_kinds()
        raise Invalid(
            f"There is no kind of store named {name!r}; known: {', '.join(known)}.", code="store_kind_unknown"
        )
    kind = found.load()
    if not isinstance(kind, ProviderKind):
        raise Invalid(f"The plug-in for {name!r} does not offer a ProviderKind.", code="store_kind_broken")
    return kind


def _entry_points() -> dict[str, EntryPoint]:
    plugged_in = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    built_in = {name: EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in _BUILT_IN.items()}
    return plugged_in | built_in


def _as_mapping(form: Mapping[str, object] | FormModel | None) -> Mapping[str, object]:
    if isinstance(form, FormModel):
        return {name: getattr(form, name) for name in type(form).model_fields}
    return form or {}


def _validated(model: type[FormModel], values: Mapping[str, object], code: str, message: str) -> FormModel:
    try:
        return model.model_validate(dict(values))
    except PydanticError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        fields = [
            {"field": ".".join(map(str, item["loc"])), "message": item["msg"].removeprefix("Value error, ")}
            for item in found
        ]
    raise Invalid(message, code=code, fields=fields)
