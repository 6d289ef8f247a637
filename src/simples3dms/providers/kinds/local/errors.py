"""What the operating system can refuse, as our errors: one table by errno."""

from __future__ import annotations

import errno
from typing import Final

from simples3dms.providers.errors import (
    AccessDenied,
    ObjectNotFound,
    ObjectTooLarge,
    ProviderError,
    StoreFull,
    StoreTimedOut,
    StoreUnavailable,
    Unsupported,
)

_TABLE: Final[dict[int, tuple[type[ProviderError], str]]] = {
    errno.ENOENT: (ObjectNotFound, "no such object"),
    errno.ENOTDIR: (ObjectNotFound, "no such object"),
    errno.EACCES: (AccessDenied, "the process may not do this in the store's directory"),
    errno.EPERM: (AccessDenied, "the process may not do this in the store's directory"),
    errno.EROFS: (AccessDenied, "the store's file system is read-only"),
    errno.ELOOP: (AccessDenied, "a symbolic link stands in the way"),
    errno.ENOSPC: (StoreFull, "no space left on the store's file system"),
    errno.EDQUOT: (StoreFull, "the disk quota of the store's file system is used up"),
    errno.EFBIG: (ObjectTooLarge, "the file system or a process limit refuses a file of this size"),
    errno.ENAMETOOLONG: (Unsupported, "a part of the key is too long for the file system"),
    errno.EISDIR: (Unsupported, "the key is a folder of other keys"),
    errno.ENOTEMPTY: (Unsupported, "the key is a folder of other keys"),
    errno.ETIMEDOUT: (StoreTimedOut, "the store's file system did not answer in time"),
}


def from_os_error(error: OSError, key: str | None = None) -> ProviderError:
    """Our error for theirs; what the table does not name (EIO, ESTALE, EMFILE, ...) means that the store is unwell."""
    kind, message = _TABLE.get(error.errno or 0, (StoreUnavailable, "the store's file system failed"))
    return kind(message, vendor_code=errno.errorcode.get(error.errno or 0), key=key)
