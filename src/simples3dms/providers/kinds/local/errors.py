"""What the operating system can refuse, as our errors: one table by errno."""

from __future__ import annotations

import errno
from typing import Final

from simples3dms.providers.errors import (
    AccessDenied,
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    ProviderError,
    StoreBroken,
    StoreFull,
    StoreTimedOut,
    StoreUnavailable,
    Unsupported,
)

_NO_RIGHT: Final = "the process may not do this in the store's directory"
_IS_FOLDER: Final = "the key is a folder of other keys"
_TOO_MANY_FILES: Final = "too many files are open: raise the limit (ulimit -n)"
_DISK_FAILED: Final = "the store's disk failed (EIO): a write must not be taken as done"
_GONE: Final = "the store's file system is gone: its disk or its network share was taken away"
_FAILED: Final = "the store's file system failed"

#: By name, since not every system has each.
BY_ERRNO: Final[dict[str, tuple[type[ProviderError], str]]] = {
    "ENOENT": (ObjectNotFound, "no such object"),
    "ENOTDIR": (ObjectNotFound, "no such object"),
    "EACCES": (AccessDenied, _NO_RIGHT),
    "EPERM": (AccessDenied, _NO_RIGHT),
    "EROFS": (AccessDenied, "the store's file system is read-only"),
    "ELOOP": (AccessDenied, "a symbolic link stands in the way"),
    "ENOSPC": (StoreFull, "no space left on the store's file system"),
    "EDQUOT": (StoreFull, "the disk quota of the store's file system is used up"),
    "EFBIG": (ObjectTooLarge, "the file system or a process limit refuses a file of this size"),
    "ENAMETOOLONG": (Unsupported, "a part of the key is too long for the file system"),
    "EISDIR": (Unsupported, _IS_FOLDER),
    "ENOTEMPTY": (Unsupported, _IS_FOLDER),
    "EINVAL": (Unsupported, "the file system refuses the key or the operation"),
    "EILSEQ": (Unsupported, "the file system refuses the characters of the key"),
    "EOPNOTSUPP": (Unsupported, "the file system can't do this"),
    "ENOTSUP": (Unsupported, "the file system can't do this"),
    "ENOSYS": (Unsupported, "the file system can't do this"),
    "EXDEV": (Unsupported, "the store's directory spans more than one file system"),
    "EMLINK": (Unsupported, "the file system allows no more links"),
    "EEXIST": (PreconditionFailed, "the file is there already"),
    "ETIMEDOUT": (StoreTimedOut, "the store's file system did not answer in time"),
    "EIO": (StoreBroken, _DISK_FAILED),
    "ENODEV": (StoreUnavailable, _GONE),
    "ENXIO": (StoreUnavailable, _GONE),
    "ESTALE": (StoreUnavailable, _GONE),
    "ENOTCONN": (StoreUnavailable, _GONE),
    "ESHUTDOWN": (StoreUnavailable, _GONE),
    "EHOSTDOWN": (StoreUnavailable, _GONE),
    "EMFILE": (StoreUnavailable, _TOO_MANY_FILES),
    "ENFILE": (StoreUnavailable, _TOO_MANY_FILES),
    "ENOMEM": (StoreUnavailable, "the system has no memory left for the store's file system"),
    "EAGAIN": (StoreUnavailable, "the file is locked, or the file system is busy"),
    "EBUSY": (StoreUnavailable, "the file is in use, or the file system is busy"),
    "ETXTBSY": (StoreUnavailable, "the file is in use"),
    "EINTR": (StoreUnavailable, "the call was interrupted"),
}

_BY_NUMBER: Final = {getattr(errno, name): said for name, said in BY_ERRNO.items() if hasattr(errno, name)}


def from_os_error(error: OSError, key: str | None = None) -> ProviderError:
    """Our error for theirs; what the table does not name means that the store is unwell."""
    kind, message = _BY_NUMBER.get(error.errno or 0, (StoreUnavailable, _FAILED))
    return kind(message, vendor_code=errno.errorcode.get(error.errno or 0), key=key)
