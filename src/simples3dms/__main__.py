"""`simples3dms` and `python -m simples3dms`."""

from __future__ import annotations

from simples3dms.cli.main import main

if __name__ == "__main__":
    main()
