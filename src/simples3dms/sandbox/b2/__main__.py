"""Run the B2 sandbox: `python -m simples3dms.sandbox.b2 DIRECTORY PORT`, its secrets in the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

from simples3dms.sandbox.b2.app import B2Server


def main() -> None:
    server = B2Server(
        Path(sys.argv[1]),
        key_id=os.environ["SANDBOX_B2_KEY_ID"],
        key=os.environ["SANDBOX_B2_KEY"],
        control_token=os.environ["SANDBOX_B2_CONTROL"],
    )
    uvicorn.run(
        server.app(),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=120,
    )


if __name__ == "__main__":
    main()
