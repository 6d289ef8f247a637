"""What can be wrong with the key ring or a sealed value. All of it needs an operator; none of it shows a secret."""

from __future__ import annotations

from simples3dms.errors import Failure, Unavailable


class KeyringFailed(Failure):
    """The key ring can't be used as it stands."""

    code = "keyring_malformed"


class SealKeyUnknown(Failure):
    """A value was sealed under a key that this key ring does not hold."""

    code = "seal_key_unknown"


class SealBroken(Failure):
    """A sealed value was changed, or was moved here from another row, column, version or tenant."""

    code = "seal_broken"


class KeyServiceUnavailable(Unavailable):
    """The service that keeps a key does not answer now. What is opened already goes on working."""

    code = "key_service_unavailable"

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"The service that keeps the key {key_id!r} does not answer; try again shortly.", key_id=key_id
        )


class KeyServiceRefused(Failure):
    """The service that keeps a key refuses us, or the key is disabled or gone."""

    code = "key_service_refused"

    def __init__(self, key_id: str, reason: str) -> None:
        """`reason`: the service's short code, such as `AccessDeniedException`; never a message of its own."""
        super().__init__(
            f"The service that keeps the key {key_id!r} refuses to use it ({reason}): "
            "see that the key is there and enabled, and that our credential may encrypt and decrypt with it.",
            key_id=key_id,
            reason=reason,
        )
