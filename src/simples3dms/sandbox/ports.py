"""Free ports of the loopback interface."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence

from simples3dms.errors import Unavailable

LOOPBACK = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections (32768 on).
_LOWEST, _HIGHEST = 12_000, 22_000


def listen(preferred: int = 0) -> socket.socket:
    """A listening socket, on the preferred port if that is free. It holds its port: nobody can get in between."""
    for port in dict.fromkeys((preferred, 0)):
        # As TCP's, or asyncio leaves Nagle's algorithm on: each answer to a kept connection would take 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            listener.close()
            continue
        listener.listen(1024)
        return listener
    raise Unavailable("There are no free ports on the loopback interface.")


def free_port_block(count: int, *, also: Sequence[int] = (0,), preferred: int = 0) -> int:
    """The first of `count` consecutive free ports that are free at each of the offsets in `also`, too.

    Someone else may take one before the server binds it: whoever starts the server tries again with others then.
    """
    # The random start keeps processes that start servers at the same time apart.
    start = secrets.randbelow(_HIGHEST - _LOWEST)
    blocks = (_LOWEST + (start + step) % (_HIGHEST - _LOWEST) for step in range(0, _HIGHEST - _LOWEST, count))
    for base in (preferred, *blocks) if preferred else blocks:
        if all(_is_free(base + offset + number) for offset in also for number in range(count)):
            return base
    raise Unavailable("There are no free ports on the loopback interface.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # there it passes over sockets in TIME_WAIT, elsewhere over listening ones
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
