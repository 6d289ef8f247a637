"""Uploads in parts, copies inside the service, and signed requests."""

from __future__ import annotations

from dataclasses import replace

import httpx

from simples3dms.providers.base import CopySource, ObjectRef, PartsUpload, SignedRequest
from simples3dms.providers.conformance.harness import Bench, behaviour, noise, require
from simples3dms.providers.errors import ObjectNotFound, Unsupported

_PARTS = "multipart"


def _bodies(upload: PartsUpload) -> list[bytes]:
    return [noise(upload.part_size_bytes), noise(upload.part_size_bytes), noise(777)]


@behaviour("parts", _PARTS)
async def parts_make_an_object(bench: Bench) -> None:
    """Parts that were sent and finished are one object."""
    upload = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(upload)
    parts = [await bench.store.put_part(upload, number, body) for number, body in enumerate(bodies, 1)]
    result = await bench.store.finish_parts(upload, parts)
    require(result.size_bytes == sum(map(len, bodies)), "another size was told")
    await bench.require_body("x", b"".join(bodies))


@behaviour("parts", _PARTS)
async def parts_in_any_order(bench: Bench) -> None:
    """Parts may be sent in any order; their numbers decide."""
    upload = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(upload)
    parts = [await bench.store.put_part(upload, number, bodies[number - 1]) for number in (3, 1, 2)]
    await bench.store.finish_parts(upload, sorted(parts, key=lambda part: part.number))
    await bench.require_body("x", b"".join(bodies))


@behaviour("parts", _PARTS, "replaces_parts")
async def a_part_sent_again_replaces_it(bench: Bench) -> None:
    """The same number again replaces the part."""
    upload = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(upload)[:2]
    await bench.store.put_part(upload, 1, noise(upload.part_size_bytes))
    parts = [await bench.store.put_part(upload, number, body) for number, body in enumerate(bodies, 1)]
    await bench.store.finish_parts(upload, parts)
    await bench.require_body("x", b"".join(bodies))


@behaviour("parts", _PARTS)
async def parts_are_listed(bench: Bench) -> None:
    """What was sent can be asked for: numbers, sizes and tokens."""
    upload = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(upload)
    sent = [await bench.store.put_part(upload, number, bodies[number - 1]) for number in (1, 3)]
    require(list(await bench.store.list_parts(upload)) == sent, "the parts are listed otherwise")


@behaviour("parts", _PARTS)
async def an_upload_is_resumed(bench: Bench) -> None:
    """After a crash the parts that are there are listed, only the others are sent, and the object is whole."""
    begun = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(begun)
    await bench.store.put_part(begun, 2, bodies[1])
    # What a record would keep of it is all that is left.
    upload = PartsUpload(begun.key, begun.upload_id, begun.part_size_bytes)
    there = {part.number: part for part in await bench.store.list_parts(upload)}
    for number, body in enumerate(bodies, 1):
        if number not in there:
            there[number] = await bench.store.put_part(upload, number, body)
    await bench.store.finish_parts(upload, [there[number] for number in sorted(there)])
    await bench.require_body("x", b"".join(bodies))


@behaviour("parts", _PARTS)
async def finishing_again_succeeds(bench: Bench) -> None:
    """An upload that is finished already may be finished again: the answer may have been lost."""
    upload = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(upload)
    parts = [await bench.store.put_part(upload, number, body) for number, body in enumerate(bodies, 1)]
    for _ in range(2):
        await bench.store.finish_parts(upload, parts)
    await bench.require_body("x", b"".join(bodies))
    require(await bench.keys() == ["x"], "there is more than one")


@behaviour("parts", _PARTS)
async def nothing_shows_before_the_end(bench: Bench) -> None:
    """Before it is finished there is no object, only an unfinished upload."""
    upload = await bench.store.begin_parts(bench.key("x"))
    await bench.store.put_part(upload, 1, noise(upload.part_size_bytes))
    await bench.require_raises(ObjectNotFound, bench.read("x"), "an unfinished object was read")
    require(await bench.keys() == [], "an unfinished object is listed")


@behaviour("parts", _PARTS)
async def unfinished_uploads_are_listed(bench: Bench) -> None:
    """What was begun and not finished can be found."""
    upload = await bench.store.begin_parts(bench.key("x"))
    await bench.store.put_part(upload, 1, noise(upload.part_size_bytes))
    found = [(info.key, info.version_id) async for info in bench.store.list_unfinished(bench.scratch)]
    require(found == [(upload.key, upload.upload_id)], f"{len(found)} unfinished uploads are listed")


@behaviour("parts", _PARTS)
async def an_aborted_upload_is_gone(bench: Bench) -> None:
    """Aborting frees the parts; doing it again succeeds; nothing can be asked of it any more."""
    upload = await bench.store.begin_parts(bench.key("x"))
    await bench.store.put_part(upload, 1, noise(upload.part_size_bytes))
    for _ in range(2):
        await bench.store.abort_parts(upload)
    await bench.require_nothing()
    await bench.require_raises(ObjectNotFound, bench.store.list_parts(upload), "an aborted upload has parts")


async def _copy(bench: Bench, body: bytes, *, whole: bool) -> None:
    made = await (bench.put("x", body) if whole else bench.put_stream("x", body))
    source = CopySource(bench.store.location, bench.key("x"), len(body), made.version_id)
    result = await bench.store.copy(source, bench.key("y"))
    require(result.size_bytes == len(body), "another size was told")
    await bench.require_body("y", body)
    await bench.require_body("x", body)


@behaviour("copying", "server_side_copy")
async def copy_small(bench: Bench) -> None:
    """A copy inside the service has the same bytes, and the source stays."""
    await _copy(bench, noise(5000), whole=True)


@behaviour("copying", "server_side_copy")
async def copy_empty(bench: Bench) -> None:
    """An empty object can be copied."""
    await _copy(bench, b"", whole=True)


@behaviour("copying", "server_side_copy")
async def copy_large(bench: Bench) -> None:
    """An object made of parts can be copied."""
    await _copy(bench, noise(2 * bench.part_bytes + 99), whole=False)


@behaviour("copying", "server_side_copy")
async def copy_from_another_place(bench: Bench) -> None:
    """An object of another place of the same account can be copied: the source's own prefix counts."""
    body = noise(5000)
    made, here = await bench.put("elsewhere/x", body), bench.store.location
    await bench.put("x", b"not this one")
    there = replace(here, prefix=f"{here.prefix}{bench.key('elsewhere/')}")
    await bench.store.copy(CopySource(there, "x", len(body), made.version_id), bench.key("y"))
    await bench.require_body("y", body)


@behaviour("copying", "server_side_copy")
async def copy_from_another_account(bench: Bench) -> None:
    """A place of another account is refused before anything is asked of the service."""
    made = await bench.put("x", b"1")
    there = replace(bench.store.location, account="another")
    copy = bench.store.copy(CopySource(there, bench.key("x"), 1, made.version_id), bench.key("y"))
    await bench.require_raises(Unsupported, copy, "it was copied")
    require(await bench.keys() == ["x"], "something was made")


@behaviour("copying", "server_side_copy")
async def a_copy_outlives_its_source(bench: Bench) -> None:
    """A copy has bytes of its own: it stays when the source is deleted."""
    body = noise(5000)
    made = await bench.put("x", body)
    await bench.store.copy(CopySource(bench.store.location, bench.key("x"), len(body), made.version_id), bench.key("y"))
    await bench.store.delete([ObjectRef(bench.key("x"), made.version_id)])
    await bench.require_body("y", body)
    require(await bench.keys() == ["y"], "the source is still there")


@behaviour("copying", "server_side_copy")
async def copy_of_a_missing_object(bench: Bench) -> None:
    """Copying what is not there says so, and makes nothing."""
    made = await bench.put("x", b"1")
    await bench.store.delete([ObjectRef(bench.key("x"), made.version_id)])
    source = CopySource(bench.store.location, bench.key("x"), 1, made.version_id)
    await bench.require_raises(ObjectNotFound, bench.store.copy(source, bench.key("y")), "a missing object was copied")
    require(await bench.keys() == [], "something was made")


async def _send(bench: Bench, request: SignedRequest, body: bytes | None = None, **headers: str) -> httpx.Response:
    return await bench.send(request.method, request.url.reveal(), body, **{**request.headers, **headers})


async def _signed(bench: Bench, name: str) -> SignedRequest:
    return await bench.store.sign_download(
        ObjectRef(bench.key(name)), expires_seconds=60, filename='Übersicht "1".pdf', content_type="application/pdf"
    )


@behaviour("signing", "sign_download")
async def signed_download(bench: Bench) -> None:
    """Whoever holds a signed request reads the object, as an attachment of the type that was signed."""
    body = noise(5000)
    await bench.put("x", body)
    answer = await _send(bench, await _signed(bench, "x"))
    require(answer.content == body, f"the store answered {answer.status_code}")
    require(answer.headers.get("content-type") == "application/pdf", "the type is not the one that was signed")
    disposition = answer.headers.get("content-disposition", "")
    require(disposition.startswith("attachment"), f"it is served as {disposition!r}")


@behaviour("signing", "sign_download")
async def signed_download_in_part(bench: Bench) -> None:
    """A signed request takes a range."""
    body = noise(5000)
    await bench.put("x", body)
    answer = await _send(bench, await _signed(bench, "x"), Range="bytes=10-19")
    require(answer.status_code == 206 and answer.content == body[10:20], f"the store answered {answer.status_code}")


@behaviour("signing", "sign_download")
async def signed_download_tampered_with(bench: Bench) -> None:
    """A signed request for one key reads no other."""
    await bench.put("x", b"mine")
    await bench.put("y", b"secret")
    request = await _signed(bench, "x")
    name, other = bench.key("x"), bench.key("y")
    answer = await bench.send("GET", request.url.reveal().replace(name, other, 1))
    require(answer.status_code in (401, 403) and b"secret" not in answer.content, f"it answered {answer.status_code}")


@behaviour("signing", "sign_download")
async def signed_download_as_another_type(bench: Bench) -> None:
    """The signed type can't be changed, to HTML for instance."""
    await bench.put("x", b"<script>")
    url = (await _signed(bench, "x")).url.reveal().replace("application%2Fpdf", "text%2Fhtml")
    answer = await bench.send("GET", url)
    require(answer.status_code in (401, 403), f"the store answered {answer.status_code}")


@behaviour("signing", "sign_upload")
async def signed_upload(bench: Bench) -> None:
    """Whoever holds a signed request writes exactly that many bytes."""
    body = noise(5000)
    request = await bench.store.sign_upload(
        bench.key("x"), size_bytes=len(body), content_type="application/pdf", expires_seconds=60
    )
    answer = await _send(bench, request, body)
    require(answer.status_code == 200, f"the store answered {answer.status_code}")
    await bench.require_body("x", body)
    require("checksum" not in request.url.reveal().lower(), "the URL holds a checksum of an empty body")


@behaviour("signing", "sign_upload")
async def signed_upload_of_another_size(bench: Bench) -> None:
    """More bytes than were signed are refused."""
    request = await bench.store.sign_upload(
        bench.key("x"), size_bytes=5000, content_type="application/pdf", expires_seconds=60
    )
    answer = await _send(bench, request, noise(6000), **{"Content-Length": "6000"})
    require(answer.status_code >= 400, f"the store answered {answer.status_code}")
    require(await bench.keys() == [], "something was made")


@behaviour("signing", "sign_upload", _PARTS)
async def signed_part(bench: Bench) -> None:
    """A part can be sent by whoever holds its signed request."""
    upload = await bench.store.begin_parts(bench.key("x"))
    bodies = _bodies(upload)[-2:]
    for number, body in enumerate(bodies, 1):
        request = await bench.store.sign_part(upload, number, size_bytes=len(body), expires_seconds=60)
        answer = await _send(bench, request, body)
        require(answer.status_code == 200, f"the store answered {answer.status_code}")
    await bench.store.finish_parts(upload, await bench.store.list_parts(upload))
    await bench.require_body("x", b"".join(bodies))


@behaviour("working")
async def it_works(bench: Bench) -> None:
    """The cheap check finds nothing wrong."""
    await bench.store.check()


@behaviour("working")
async def it_says_where_it_is(bench: Bench) -> None:
    """It has a location, the same after work, and what it declares of sizes fits together."""
    before, declared = bench.store.location, bench.store.capabilities
    await bench.put("x", b"1")
    require(bench.store.location == before and before.account != "", "the location changes, or names no account")
    require(bench.store.capabilities == declared, "the capabilities change")
    require(1 <= declared.part_size_bytes <= declared.largest_part_bytes, "a usual part is larger than a part may be")
    room = declared.largest_part_bytes * declared.most_parts
    require(not declared.multipart or declared.largest_object_bytes <= room, "the parts can't make the largest object")
    signs = declared.sign_download or declared.sign_upload
    require(signs == (declared.longest_signed_seconds > 0), "signed requests, and no time that they may live")
