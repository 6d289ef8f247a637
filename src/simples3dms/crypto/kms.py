"""A key-encrypting key that AWS KMS keeps: data keys go there to be wrapped, and the key never leaves it."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any, Final

from simples3dms.crypto.errors import KeyServiceRefused, KeyServiceUnavailable
from simples3dms.crypto.wrapping import fingerprint_of_place
from simples3dms.kit.secret import Secret

_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 10
_TRIES: Final = 3
#: The service's own troubles: the same call may work later.
_PASSING: Final = frozenset(
    {
        *("ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"),
        *("LimitExceededException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure"),
        *("RequestTimeout", "RequestLimitExceeded", "SlowDown"),
    }
)
#: What was wrapped was changed, is bound to another place, or was wrapped by another key.
_BROKEN: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class KmsKey:
    """`key`: the key's id, ARN or alias. The place of a value travels as encryption context, which KMS checks."""

    def __init__(
        self,
        key_id: str,
        *,
        key: str,
        region: str,
        endpoint: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: Secret | None = None,
        session_token: Secret | None = None,
        ca_file: Path | None = None,
    ) -> None:
        if not key.strip() or not region.strip():
            raise ValueError("a key of KMS has a name and a region")
        self.key_id = key_id
        self._key, self._region, self._endpoint = key, region, endpoint
        self._access_key_id, self._secret, self._session_token = access_key_id, secret_access_key, session_token
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def place(self) -> str:
        return f"aws-kms {self._region} {self._key}"

    @property
    def fingerprint(self) -> bytes:
        # Not the endpoint: machines may reach the one key by different ways.
        return fingerprint_of_place(self.place)

    def wrap(self, data_key: bytes, bound_to: bytes) -> bytes:
        answer = self._call("encrypt", Plaintext=data_key, EncryptionContext=_context(bound_to))
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        answer = self._call("decrypt", CiphertextBlob=wrapped, EncryptionContext=_context(bound_to))
        return bytes(answer["Plaintext"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # it takes half a second to load

        try:
            return getattr(self._client(), operation)(KeyId=self._key, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code in _BROKEN:
                raise ValueError("it does not open") from None
            if code in _PASSING or status >= 500 or status == 429:
                raise KeyServiceUnavailable(self.key_id) from error
            raise KeyServiceRefused(self.key_id, code or str(status)) from error
        except BotoCoreError as error:
            raise KeyServiceUnavailable(self.key_id) from error

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make_client()
            return self._made

    def _make_client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        if not self._access_key_id or self._secret is None:
            raise KeyServiceRefused(self.key_id, "no SIMPLES3DMS_KMS_ACCESS_KEY_ID and _SECRET_ACCESS_KEY")
        # Blind to profiles, configuration files and the metadata service: nothing of the host's signs by oversight.
        nowhere = dict.fromkeys(("config_file", "credentials_file"), (None, None, "/dev/null", None)) | {
            "profile": (None, None, None, None)
        }
        token = None if self._session_token is None else self._session_token.reveal()
        return botocore.session.Session(session_vars=nowhere).create_client(
            "kms",
            region_name=self._region,
            endpoint_url=self._endpoint,
            aws_access_key_id=self._access_key_id,
            aws_secret_access_key=self._secret.reveal(),
            aws_session_token=token,
            verify=None if self._ca_file is None else str(self._ca_file),
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"total_max_attempts": _TRIES, "mode": "standard"},
                ignore_configured_endpoint_urls=True,
            ),
        )


def _context(bound_to: bytes) -> dict[str, str]:
    return {"simples3dms": base64.b64encode(bound_to).decode()}
