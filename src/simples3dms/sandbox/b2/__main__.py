"""The B2 server's process: `python -m simples3dms.sandbox.b2 DIRECTORY SOCKET`, started by B2Sandbox.

`SOCKET` is the descriptor of a listening socket of the loopback that the parent has bound.
"""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import uvicorn

from simples3dms.sandbox.b2.account import CREDENTIALS_FILE, Account, Credentials
from simples3dms.sandbox.b2.app import App


def main() -> None:
    directory, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    logging.basicConfig(level=logging.WARNING)
    credentials = Credentials.parse((directory / CREDENTIALS_FILE).read_text())
    app = App(Account(directory, credentials), credentials.control_token)
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
