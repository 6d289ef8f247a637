"""What signs: the store's own access key, or the temporary keys of a role that it assumes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.credentials import Credentials, RefreshableCredentials

from simples3dms.providers.kinds.s3.config import S3Credential, S3Settings, blind_session, boto_config, bounded, checked
from simples3dms.providers.registry import BuildOptions

_ROLE_SECONDS: Final = 3600
#: obstore asks again after this long; the answer comes from memory unless the keys are about to run out.
_ASK_AGAIN: Final = timedelta(minutes=1)


class Keys:
    """Keys for both clients. Temporary ones are renewed a quarter of an hour before they run out; may block then."""

    def __init__(self, settings: S3Settings, credential: S3Credential, options: BuildOptions) -> None:
        self._settings, self._credential, self._options = settings, checked(credential), options
        self._made: Any = None

    def botocore_credentials(self) -> Any:
        if self._made is None:
            self._made = self._assumed() if self._settings.role_arn else self._own()
        return self._made

    def __call__(self) -> dict[str, Any]:
        """In obstore's words."""
        found = self.botocore_credentials().get_frozen_credentials()
        expires_at = datetime.now(UTC) + _ASK_AGAIN if self._settings.role_arn else None
        given = {"access_key_id": found.access_key, "secret_access_key": found.secret_key, "expires_at": expires_at}
        return given if found.token is None else {**given, "token": found.token}

    def _own(self) -> Credentials:
        token = self._credential.session_token
        return Credentials(
            self._credential.access_key_id,
            self._credential.secret_access_key.reveal(),
            None if token is None else token.reveal(),
        )

    def _assumed(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(self._assume(), self._assume, "sts-assume-role")

    def _assume(self) -> dict[str, str]:
        own = self._own()
        settings = self._settings
        client: Any = blind_session().create_client(
            "sts",
            region_name=settings.region,
            endpoint_url=settings.sts_url,
            aws_access_key_id=own.access_key,
            aws_secret_access_key=own.secret_key,
            aws_session_token=own.token,
            verify=self._options.ca_file,
            config=boto_config(settings, self._options),
        )
        asked: dict[str, Any] = {
            "RoleArn": settings.role_arn,
            "RoleSessionName": "simples3dms",
            "DurationSeconds": _ROLE_SECONDS,
        }
        if settings.external_id is not None:
            asked["ExternalId"] = settings.external_id
        found = bounded(client, self._options).assume_role(**asked)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }
