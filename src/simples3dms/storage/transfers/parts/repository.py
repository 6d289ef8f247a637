"""SQL of copies in parts: the upload that was begun for each, and the parts that have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.providers.base import Part, PartsUpload
from simples3dms.storage.blobs.values import WriteTicket
from simples3dms.storage.placement.repository import IS_SELECTED, selection_params
from simples3dms.storage.placement.selections import Selection


@dataclass(frozen=True, slots=True)
class PartUpload:
    """An upload in parts that was begun for a copy."""

    upload_id: str
    part_size_bytes: int


async def find_part_upload(uow: UnitOfWork, replica_id: UUID) -> PartUpload | None:
    return await uow.find(
        PartUpload,
        "SELECT upload_id, part_size_bytes FROM part_uploads WHERE tenant_id = %s AND replica_id = %s",
        [uow.tenant_id, replica_id],
    )


async def list_parts(uow: UnitOfWork, replica_id: UUID) -> list[Part]:
    """What was recorded of a copy's parts: ten thousand at most."""
    return await uow.rows(
        Part,
        """SELECT number, size_bytes, etag FROM sent_parts WHERE tenant_id = %s AND replica_id = %s
           ORDER BY number""",
        [uow.tenant_id, replica_id],
    )


async def forget_part_uploads(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
    """Nobody goes on with these: they are finished, or spoiled."""
    if replica_ids:
        await uow.execute(
            "DELETE FROM part_uploads WHERE tenant_id = %s AND replica_id = ANY(%s)", [uow.tenant_id, list(replica_ids)]
        )


_STANDS: Final = """EXISTS (SELECT 1 FROM replicas r WHERE r.tenant_id = %(tenant)s AND r.id = %(replica)s
  AND r.state = 'writing' AND r.fence = %(fence)s)"""


def _of(uow: UnitOfWork, ticket: WriteTicket) -> dict[str, object]:
    return {"tenant": uow.tenant_id, "replica": ticket.replica_id, "fence": ticket.fence}


async def replace_part_upload(uow: UnitOfWork, ticket: WriteTicket, upload: PartsUpload) -> bool:
    """Record an upload in the place of one that the store has no more; False if the claim on the copy was lost."""
    await uow.execute(
        "DELETE FROM part_uploads WHERE tenant_id = %s AND replica_id = %s AND upload_id <> %s",
        [uow.tenant_id, ticket.replica_id, upload.upload_id],
    )
    count = await uow.execute(
        f"""INSERT INTO part_uploads (tenant_id, replica_id, upload_id, part_size_bytes)
            SELECT %(tenant)s, %(replica)s, %(upload)s, %(size)s WHERE {_STANDS}""",
        {**_of(uow, ticket), "upload": upload.upload_id, "size": upload.part_size_bytes},
    )
    return count == 1


async def insert_part(uow: UnitOfWork, ticket: WriteTicket, part: Part, digest: bytes) -> bool:
    """Record a part that has arrived; False if the claim on the copy was lost."""
    count = await uow.execute(
        f"""INSERT INTO sent_parts (tenant_id, replica_id, number, size_bytes, etag, digest)
            SELECT %(tenant)s, %(replica)s, %(number)s, %(size)s, %(etag)s, %(digest)s WHERE {_STANDS}
              AND EXISTS (SELECT 1 FROM part_uploads WHERE tenant_id = %(tenant)s AND replica_id = %(replica)s)
            ON CONFLICT (tenant_id, replica_id, number) DO UPDATE SET etag = EXCLUDED.etag""",  # noqa: S608
        {
            **_of(uow, ticket),
            "number": part.number,
            "size": part.size_bytes,
            "etag": part.etag,
            "digest": digest,
        },
    )
    return count == 1


async def forget_parts(uow: UnitOfWork, selection: Selection, *, store_id: UUID) -> None:
    """Nobody is to go on with copies in parts of these blobs to this store: they are given up like others."""
    await uow.execute(
        f"""DELETE FROM part_uploads u USING replicas d JOIN blobs b ON b.tenant_id = d.tenant_id AND b.id = d.blob_id
            WHERE u.tenant_id = %(tenant)s AND d.tenant_id = u.tenant_id AND d.id = u.replica_id
              AND d.store_id = %(store)s AND {IS_SELECTED}""",  # noqa: S608
        {"tenant": uow.tenant_id, "store": store_id, **selection_params(selection)},
    )
