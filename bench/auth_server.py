"""What `auth` asks: the shipped application, served as `simples3dms serve` does, with one route more that is open and
answers what `GET /api/v1/tenants/{tenant}` does."""

from __future__ import annotations

import asyncio
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import Path

from simples3dms.api.app import create_app
from simples3dms.api.wire import server_config
from simples3dms.cli.hosting import keep_loaded, running
from simples3dms.cli.serving import Server
from simples3dms.kit.ids import new_id
from simples3dms.schemas.tenants import Tenant as TenantSchema
from simples3dms.settings import Settings
from simples3dms.tenants.values import Tenant


async def serve(directory: FilePath, port: int) -> None:
    somebody = Tenant(new_id(), "somebody", "Somebody", datetime.now(UTC))

    async def read_open(tenant: Annotated[str, Path(max_length=100)]) -> TenantSchema:  # noqa: ARG001  as the other has it
        return TenantSchema.model_validate(somebody)

    async with running(Settings(data_dir=directory / "var", log_level="warning")) as services:
        app = create_app(services)
        app.add_api_route("/open/{tenant}", read_open, include_in_schema=False)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            keep_loaded()
            await Server(server_config(app), lambda: None).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve(FilePath(sys.argv[1]), int(sys.argv[2])))
