"""What can be wrong with the key ring or a sealed value. All of it needs an operator; none of it shows a secret."""

from __future__ import annotations

from simples3dms.errors import Failure


class KeyringFailed(Failure):
    """The key ring's file can't be used as it stands."""

    code = "keyring_malformed"


class SealKeyUnknown(Failure):
    """A value was sealed under a key that this key ring does not hold."""

    code = "seal_key_unknown"


class SealBroken(Failure):
    """A sealed value was changed, or was moved here from another row, column, version or tenant."""

    code = "seal_broken"
