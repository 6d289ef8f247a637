"""Deleting, discarding and listing: everything goes that should, nothing else, and every key is told once."""

from __future__ import annotations

import asyncio

from simples3dms.providers.base import ObjectRef
from simples3dms.providers.conformance.harness import Bench, behaviour, noise, require

_MANY = 130
#: A page has 1,000 at S3 and B2.
_MORE_THAN_A_PAGE = 1010


async def _delete(bench: Bench, *names: str) -> None:
    refs = [ObjectRef(bench.key(name)) for name in names]
    outcomes = await bench.store.delete(refs)
    require([outcome.ref for outcome in outcomes] == refs, "the outcomes are not in order")
    failed = next((outcome for outcome in outcomes if outcome.error is not None), None)
    require(failed is None, f"a deletion failed: {failed.error if failed else ''}")


@behaviour("deleting")
async def delete_one(bench: Bench) -> None:
    """A deleted object is gone."""
    await bench.put("x", b"1")
    await _delete(bench, "x")
    await bench.require_nothing()


@behaviour("deleting")
async def delete_what_is_not_there(bench: Bench) -> None:
    """Deleting what is not there succeeds."""
    await _delete(bench, "missing", "missing/below")


@behaviour("deleting")
async def delete_twice(bench: Bench) -> None:
    """Deleting again succeeds."""
    await bench.put("x", b"1")
    await _delete(bench, "x")
    await _delete(bench, "x")
    await bench.require_nothing()


@behaviour("deleting")
async def delete_nothing(bench: Bench) -> None:
    """Deleting an empty list is no error."""
    await _delete(bench)


@behaviour("deleting")
async def delete_many(bench: Bench) -> None:
    """Many at a time go, those that were not there among them."""
    names = [f"{number:03}" for number in range(40)]
    await asyncio.gather(*(bench.put(name, b"x") for name in names))
    await _delete(bench, *names[:20], "missing", *names[20:])
    await bench.require_nothing()


@behaviour("deleting")
async def delete_spares_the_neighbours(bench: Bench) -> None:
    """Keys that begin alike stay."""
    for name in ("a", "ab", "a.b"):
        await bench.put(name, b"1")
    await _delete(bench, "a")
    require(sorted(await bench.keys()) == ["a.b", "ab"], "another key went, or this one stayed")


@behaviour("deleting")
async def delete_a_large_object(bench: Bench) -> None:
    """An object made of parts is gone with all of them."""
    await bench.put_stream("x", noise(2 * bench.part_bytes + 1))
    await _delete(bench, "x")
    await bench.require_nothing()


@behaviour("deleting")
async def write_after_delete(bench: Bench) -> None:
    """A key that was deleted may be written, and is then what was written."""
    await bench.put("x", b"1")
    await _delete(bench, "x")
    await bench.put("x", b"22")
    await bench.require_body("x", b"22")


@behaviour("deleting", "versions")
async def delete_a_version(bench: Bench) -> None:
    """Deleting by version id takes that version and leaves the others."""
    first, second = await bench.put("x", b"first"), await bench.put("x", b"second")
    await bench.store.delete([ObjectRef(bench.key("x"), first.version_id)])
    require(await bench.read("x", version_id=second.version_id) == b"second", "the other version is gone")
    require(await bench.keys() == ["x"], "not exactly one version is listed")


@behaviour("deleting", "versions")
async def delete_all_versions(bench: Bench) -> None:
    """Deleting without an id leaves nothing hidden that would be billed."""
    for number in range(3):
        await bench.put("x", bytes([number]))
    await _delete(bench, "x")
    await bench.require_nothing()


@behaviour("deleting", "versions")
async def versions_are_listed(bench: Bench) -> None:
    """Every version of a key is listed, with its id."""
    made = {(await bench.put("x", bytes([number]))).version_id for number in range(3)}
    found = {info.version_id async for info in bench.store.list(bench.scratch)}
    require(found == made, f"{len(found)} versions are listed of {len(made)}")


@behaviour("discarding")
async def discard_exactly_that_key(bench: Bench) -> None:
    """Discarding removes that key, however often it was written, and no other."""
    for name in ("a", "a", "ab", "a.b"):
        await bench.put(name, b"1")
    await bench.store.discard(bench.key("a"))
    require(sorted(await bench.keys()) == ["a.b", "ab"], "another key went, or this one stayed")


@behaviour("discarding")
async def discard_what_is_not_there(bench: Bench) -> None:
    """Discarding what is not there succeeds, twice."""
    for _ in range(2):
        await bench.store.discard(bench.key("missing/x"))


@behaviour("discarding", "multipart")
async def discard_an_unfinished_upload(bench: Bench) -> None:
    """Discarding a key frees the parts of uploads that were never finished."""
    upload = await bench.store.begin_parts(bench.key("x"))
    await bench.store.put_part(upload, 1, noise(bench.part_bytes))
    await bench.store.discard(bench.key("x"))
    await bench.require_nothing()


@behaviour("listing")
async def list_nothing(bench: Bench) -> None:
    """An empty place lists nothing."""
    require(await bench.keys() == [], "something is listed")


@behaviour("listing")
async def list_everything_once(bench: Bench) -> None:
    """Every key is listed once, over folders and pages."""
    names = {f"{number % 7}/{number:04}" for number in range(_MANY)}
    await asyncio.gather(*(bench.put(name, b"") for name in names))
    found = await bench.keys()
    require(len(found) == len(names) and set(found) == names, f"{len(found)} of {len(names)} keys were listed")


@behaviour("listing")
async def list_below_a_prefix(bench: Bench) -> None:
    """A narrower prefix lists what begins with it, also in the middle of a name."""
    for name in ("ab/1", "ab/2", "abc", "b/1"):
        await bench.put(name, b"")
    require(sorted(await bench.keys("ab/")) == ["ab/1", "ab/2"], "a folder lists otherwise")
    require(sorted(await bench.keys("ab")) == ["ab/1", "ab/2", "abc"], "a part of a name lists otherwise")


@behaviour("listing")
async def list_after_a_key(bench: Bench) -> None:
    """Listing after a key leaves out that key and what sorts before it."""
    names = sorted(f"{number:03}" for number in range(20))
    await asyncio.gather(*(bench.put(name, b"") for name in names))
    after = bench.key(names[9])
    found = {info.key async for info in bench.store.list(bench.scratch, start_after=after)}
    require(found == {bench.key(name) for name in names[10:]}, f"{len(found)} keys instead of 10")


@behaviour("listing")
async def list_tells_sizes(bench: Bench) -> None:
    """Listing tells each object's size."""
    for size in (0, 1, 5000):
        await bench.put(f"{size}", noise(size))
    found = {info.key.removeprefix(bench.scratch): info.size_bytes async for info in bench.store.list(bench.scratch)}
    require(found == {"0": 0, "1": 1, "5000": 5000}, f"the sizes are told as {found}")


@behaviour("listing")
async def list_in_pages(bench: Bench) -> None:
    """A page ends with a cursor, and the next page goes on where it ended: more keys than services put on one."""
    names = {f"{number // 300}/{number:04}" for number in range(_MORE_THAN_A_PAGE)}
    await asyncio.gather(*(bench.put(name, b"") for name in names))
    found: list[str] = []
    cursor = None
    for _ in range(_MORE_THAN_A_PAGE):
        page = await bench.store.list_page(bench.scratch, cursor=cursor)
        found += [info.key.removeprefix(bench.scratch) for info in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    require(cursor is None, "the pages never end")
    require(sorted(found) == sorted(names), f"{len(found)} keys in pages, {len(names)} written")
    after = sorted(names)[700]
    rest = [info.key async for info in bench.store.list(bench.scratch, start_after=bench.key(after))]
    require(len(rest) == len(names) - 701, f"{len(rest)} keys after the 701st of {len(names)}")


@behaviour("listing")
async def list_while_deleting(bench: Bench) -> None:
    """A listing goes on while what it told is deleted."""
    names = {f"{number:04}" for number in range(_MANY)}
    await asyncio.gather(*(bench.put(name, b"") for name in names))
    found = set()
    async for info in bench.store.list(bench.scratch):
        found.add(info.key.removeprefix(bench.scratch))
        await bench.store.delete([ObjectRef(info.key, info.version_id)])
    require(found == names, f"{len(found)} of {len(names)} keys were listed")
    await bench.require_nothing()


@behaviour("listing")
async def list_what_was_just_written(bench: Bench) -> None:
    """What was written is listed at once, and what was deleted is not."""
    for number in range(5):
        await bench.put(f"x{number}", b"1")
        require(await bench.keys() == [f"x{number}"], "the listing is behind")
        await _delete(bench, f"x{number}")
