"""The calls about Object Lock: the retention and the legal hold of a file version in a bucket that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simples3dms.sandbox.b2.account import Account, check_rights
from simples3dms.sandbox.b2.errors import access_denied, bad_request
from simples3dms.sandbox.b2.files import File, Lock
from simples3dms.sandbox.b2.http import Answer, Request, json_answer
from simples3dms.sandbox.b2.records import Key, now_ms

_MODES = ("governance", "compliance")


async def update_file_legal_hold(account: Account, request: Request) -> Answer:
    file, _ = _find(account, request, "writeFileLegalHolds")
    hold = request.text("legalHold")
    if hold not in ("on", "off"):
        raise bad_request("legalHold must be on or off")
    account.files.put_lock(file.id, replace(account.files.find_lock(file.id), hold=hold))
    return json_answer({"fileId": file.id, "fileName": file.name, "legalHold": hold})


async def update_file_retention(account: Account, request: Request) -> Answer:
    file, key = _find(account, request, "writeFileRetentions")
    bypass = request.params.get("bypassGovernance") in (True, "true")
    if bypass:
        check_rights(key, "bypassGovernance", bucket_id=file.bucket_id, name=file.name)
    mode, until = _wanted(request.params.get("fileRetention"))
    before = account.files.find_lock(file.id)
    if before.is_retained and _weakens(before, mode, until):
        if before.mode == "compliance":
            raise access_denied("A retention of the mode compliance can only be lengthened.")
        if not bypass:
            raise access_denied("Shortening a retention of the mode governance needs bypassGovernance.")
    account.files.put_lock(file.id, replace(before, mode=mode, until=until))
    retention = {"mode": mode, "retainUntilTimestamp": until}
    return json_answer({"fileId": file.id, "fileName": file.name, "fileRetention": retention})


def _find(account: Account, request: Request, right: str) -> tuple[File, Key]:
    """The file version that is asked about, and the key that may change its lock."""
    file_id, name = request.text("fileId"), request.text("fileName")
    account.authorize(request, right, name=name)
    file = account.files.find(file_id)
    if file is None or file.name != name or file.action != "upload":
        raise bad_request(f"File not present: {name} {file_id}", "file_not_present")
    key = account.authorize(request, right, bucket_id=file.bucket_id, name=name)
    if not account.get_bucket(file.bucket_id).has_lock:
        raise bad_request("The bucket is not file lock enabled.")
    return file, key


def _wanted(given: Any) -> tuple[str | None, int | None]:
    """A mode and a time in the future, in milliseconds; or neither."""
    told = given if isinstance(given, dict) else {}
    mode, until = told.get("mode"), told.get("retainUntilTimestamp")
    if mode is None and until is None and isinstance(given, dict):
        return None, None
    if mode not in _MODES or not isinstance(until, int) or until <= now_ms():
        raise bad_request("fileRetention needs a mode and a retainUntilTimestamp in the future.")
    return str(mode), until


def _weakens(before: Lock, mode: str | None, until: int | None) -> bool:
    shorter = until is None or until < (before.until or 0)
    return shorter or (before.mode == "compliance" and mode != "compliance")
