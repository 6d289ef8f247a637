"""Every errno of the system has its place in our tree; those that a file system gives have one of their own."""

from __future__ import annotations

import errno
import os
import traceback

import pytest

from simples3dms.providers import errors as ours
from simples3dms.providers.kinds.local.errors import BY_ERRNO, from_os_error

_KINDS: dict[str, type[ours.ProviderError]] = {
    "ENOENT": ours.ObjectNotFound,
    "ENOTDIR": ours.ObjectNotFound,
    "EACCES": ours.AccessDenied,
    "EPERM": ours.AccessDenied,
    "EROFS": ours.AccessDenied,
    "ELOOP": ours.AccessDenied,
    "ENOSPC": ours.StoreFull,
    "EDQUOT": ours.StoreFull,
    "EFBIG": ours.ObjectTooLarge,
    "ENAMETOOLONG": ours.Unsupported,
    "EISDIR": ours.Unsupported,
    "ENOTEMPTY": ours.Unsupported,
    "EINVAL": ours.Unsupported,
    "EILSEQ": ours.Unsupported,
    "EOPNOTSUPP": ours.Unsupported,
    "ENOTSUP": ours.Unsupported,
    "ENOSYS": ours.Unsupported,
    "EXDEV": ours.Unsupported,
    "EMLINK": ours.Unsupported,
    "EEXIST": ours.PreconditionFailed,
    "ETIMEDOUT": ours.StoreTimedOut,
    "EIO": ours.StoreBroken,
    "ENODEV": ours.StoreUnavailable,
    "ENXIO": ours.StoreUnavailable,
    "ESTALE": ours.StoreUnavailable,
    "ENOTCONN": ours.StoreUnavailable,
    "ESHUTDOWN": ours.StoreUnavailable,
    "EHOSTDOWN": ours.StoreUnavailable,
    "EMFILE": ours.StoreUnavailable,
    "ENFILE": ours.StoreUnavailable,
    "ENOMEM": ours.StoreUnavailable,
    "EAGAIN": ours.StoreUnavailable,
    "EBUSY": ours.StoreUnavailable,
    "ETXTBSY": ours.StoreUnavailable,
    "EINTR": ours.StoreUnavailable,
}


def _error(number: int | None) -> ours.ProviderError:
    return from_os_error(OSError(number, os.strerror(number or 0), "/srv/c4n4ry/file"), "k")


@pytest.mark.parametrize(("number", "name"), sorted(errno.errorcode.items()))
def test_every_errno_is_a_provider_error_that_says_which(number: int, name: str) -> None:
    error = _error(number)

    assert isinstance(error, ours.ProviderError)
    assert (error.vendor_code, error.key) == (name, "k")
    aliases = {other for other in _KINDS if getattr(errno, other, None) == number}
    assert {type(error)} == ({_KINDS[other] for other in aliases} or {ours.StoreUnavailable})


def test_the_table_and_its_second_opinion_name_the_same() -> None:
    assert set(BY_ERRNO) == set(_KINDS)
    assert {name for name in BY_ERRNO if not hasattr(errno, name)} == set(), "no errno of this system"
    assert all("\n" not in message and message for _, message in BY_ERRNO.values())


def test_an_errno_that_nobody_knows_is_a_store_that_is_unwell() -> None:
    for number in (None, 0, 9999):
        error = _error(number)
        assert (type(error), error.vendor_code) == (ours.StoreUnavailable, None)


def test_a_full_disk_and_a_broken_disk_are_told_apart() -> None:
    full, quota, broken = (_error(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO))

    assert type(full) is type(quota) is ours.StoreFull
    assert type(broken) is ours.StoreBroken
    assert len({full.message, quota.message, broken.message}) == 3
    assert (full.retryable, quota.retryable, broken.retryable) == (False, False, False)
    assert "disk failed" in broken.message
    assert "must not be taken as done" in broken.message


def test_the_message_holds_no_path_of_the_server() -> None:
    for number in errno.errorcode:
        error = _error(number)
        shown = f"{error} {error!r} {vars(error)} {''.join(traceback.format_exception(error))}"
        assert "c4n4ry" not in shown
