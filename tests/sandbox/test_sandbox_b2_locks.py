"""The B2 sandbox keeps what Object Lock keeps, with B2's codes, whoever asks; and tells it to those who may know."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from b2sdk.v3 import B2Api, Bucket, FileRetentionSetting, FileVersion, LegalHold, RetentionMode
from b2sdk.v3.exception import AccessDenied, B2Error, DisablingFileLockNotSupported, RetentionWriteError, Unauthorized

from simples3dms.sandbox.b2 import B2Sandbox

LogIn = Callable[..., B2Api]
RIGHTS = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"]


@pytest.fixture
def bucket(b2: B2Sandbox, log_in: LogIn, bucket_name: str) -> Bucket:
    b2.create_bucket(f"{bucket_name}-locked", object_lock=True)
    return log_in().get_bucket_by_name(f"{bucket_name}-locked")


def retention(seconds: float, mode: RetentionMode = RetentionMode.GOVERNANCE) -> FileRetentionSetting:
    return FileRetentionSetting(mode, int((time.time() + seconds) * 1000))


def test_what_is_held_stays_for_every_key_until_it_is_released(bucket: Bucket) -> None:
    file = bucket.upload_bytes(b"x", "a")
    assert file.update_legal_hold(LegalHold.ON).legal_hold is LegalHold.ON
    found = bucket.get_file_info_by_id(file.id_)
    assert (found.legal_hold, found.file_retention.mode) == (LegalHold.ON, RetentionMode.NONE)
    for bypass in (False, True):
        with pytest.raises(AccessDenied):
            file.delete(bypass_governance=bypass)
    assert file.update_legal_hold(LegalHold.OFF).legal_hold is LegalHold.OFF
    file.delete()


def test_governance_yields_to_the_right_to_bypass_alone(bucket: Bucket, log_in: LogIn) -> None:
    file = bucket.upload_bytes(b"x", "a")
    file.update_retention(retention(3600))
    file.update_retention(retention(7200))
    for act in (lambda: file.update_retention(retention(60)), lambda: file.update_retention(_none())):
        with pytest.raises(RetentionWriteError):
            act()
    with pytest.raises(AccessDenied):
        file.delete()
    theirs = _same_file(bucket, log_in, file, "writeFileRetentions")
    with pytest.raises(Unauthorized):
        theirs.update_retention(retention(60), bypass_governance=True)
    file.update_retention(retention(60), bypass_governance=True)
    file.delete(bypass_governance=True)


def test_compliance_yields_to_nobody_before_its_time(bucket: Bucket) -> None:
    file = bucket.upload_bytes(b"x", "a")
    file.update_retention(retention(3600))
    file.update_retention(retention(3601, RetentionMode.COMPLIANCE))
    for weaker in (retention(60, RetentionMode.COMPLIANCE), retention(7200), _none()):
        with pytest.raises(RetentionWriteError):
            file.update_retention(weaker, bypass_governance=True)
    with pytest.raises(AccessDenied):
        file.delete(bypass_governance=True)
    assert bucket.get_file_info_by_id(file.id_).file_retention.mode is RetentionMode.COMPLIANCE


def test_a_key_without_the_rights_neither_locks_nor_learns_of_locks(bucket: Bucket, log_in: LogIn) -> None:
    file = bucket.upload_bytes(b"x", "a")
    file.update_legal_hold(LegalHold.ON)
    theirs = _same_file(bucket, log_in, file)
    assert (theirs.legal_hold, theirs.file_retention.mode) == (LegalHold.UNKNOWN, RetentionMode.UNKNOWN)
    assert theirs.api.get_bucket_by_id(bucket.id_).is_file_lock_enabled is None
    for act in (lambda: theirs.update_legal_hold(LegalHold.OFF), lambda: theirs.update_retention(retention(60))):
        with pytest.raises(Unauthorized):
            act()


def test_locks_are_of_buckets_that_have_them(bucket: Bucket, log_in: LogIn, bucket_name: str) -> None:
    plain = log_in().get_bucket_by_name(bucket_name)
    file = plain.upload_bytes(b"x", "a")
    for act in (lambda: file.update_legal_hold(LegalHold.ON), lambda: file.update_retention(retention(60))):
        with pytest.raises(B2Error):
            act()
    plain.update(is_file_lock_enabled=True)
    file.update_legal_hold(LegalHold.ON)
    with pytest.raises(DisablingFileLockNotSupported):
        plain.update(is_file_lock_enabled=False)
    assert log_in().get_bucket_by_name(bucket_name).is_file_lock_enabled
    for wrong in (retention(-60), retention(0)):
        with pytest.raises(B2Error):
            file.update_retention(wrong)


def _none() -> FileRetentionSetting:
    return FileRetentionSetting(RetentionMode.NONE)


def _same_file(bucket: Bucket, log_in: LogIn, file: Any, *rights: str) -> FileVersion:
    """The file as a key with few rights has it."""
    key = bucket.api.create_key([*RIGHTS, *rights], "theirs")
    return log_in(key.id_, key.application_key).get_bucket_by_id(bucket.id_).get_file_info_by_id(file.id_)
