"""One running server as the keeper's child: start, watch, restart, stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from simples3dms.db.embedded.accounts import Home
from simples3dms.db.embedded.cluster import find_postmaster, find_status, remove_leftovers
from simples3dms.db.embedded.files import Log
from simples3dms.db.embedded.locks import open_lock, try_lock
from simples3dms.db.embedded.processes import is_living_in, spawn

_TICK_SECONDS = 0.02
#: How long a server may take for each way of being told to stop, before the next, ruder one.
_WAYS_TO_STOP = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 8.0), (signal.SIGKILL, 5.0))
#: An earlier server was told to stop when its keeper died: how long it may take before we press it, and how.
_WAYS_TO_PRESS = ((signal.SIGQUIT, 20.0), (signal.SIGKILL, 28.0))
_LONGEST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 10.0
#: A server that somebody told to stop "smartly" waits for its clients for ever and takes no new ones.
_STOPPING_SECONDS = 3.0


class Postmaster:
    """Holds `server.lock` through the server's processes: it is free when, and only when, all of them are gone."""

    def __init__(self, home: Home, command: Sequence[str | Path], socket_dir: Path, log: Log) -> None:
        self._home, self._command, self._socket_dir, self._log = home, command, socket_dir, log
        self._cluster = home.path / "cluster"
        self._pid: int | None = None
        self._started_at = self._stopping_since = 0.0
        self._pause, self._next_start = 0.1, 0.0
        self._blocked_since: float | None = None
        self._pressed: set[int] = set()

    @property
    def is_running(self) -> bool:
        return self._pid is not None

    @property
    def is_ready(self) -> bool:
        return self._pid is not None and find_status(self._cluster, self._pid) == "ready"

    def try_start(self) -> bool:
        """Start the server unless processes of an earlier one are still there."""
        lock = open_lock(self._home.path / "server.lock")
        try:
            if not try_lock(lock):
                self._press_leftover()
                return False
            self._blocked_since = None
            self._pressed.clear()
            remove_leftovers(self._cluster, self._socket_dir)
            process = spawn(
                self._command,
                account=self._home.account,
                output=self._log.descriptor,
                death_signal=signal.SIGINT,  # a fast, clean stop if the keeper is killed
                keep_open=(lock,),
            )
        finally:
            os.close(lock)  # from here on only the server's processes hold it
        process.returncode = 0  # reaped by `reap`, not by Popen
        self._pid, self._started_at, self._stopping_since = process.pid, time.monotonic(), 0.0
        return True

    def _press_leftover(self) -> None:
        """An earlier server, whose keeper was killed, is stopping already; see that it comes to an end."""
        now = time.monotonic()
        self._blocked_since = self._blocked_since or now
        for number, patience in _WAYS_TO_PRESS:
            if now - self._blocked_since > patience and number not in self._pressed:
                self._pressed.add(number)
                self._signal_leftover(number)

    def _signal_leftover(self, number: int) -> None:
        pid = find_postmaster(self._cluster)
        if pid is not None and is_living_in(pid, self._cluster):
            self._log.write(f"an earlier server, process {pid}, does not stop: sending signal {number}")
            os.kill(pid, number)

    def reap(self) -> int | None:
        """Collect dead children (and orphans of dead servers); return the server's wait status if it has ended."""
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self._pid:
                self._pid, ended = None, status

    def tend(self) -> None:
        """One look, several times a second: restart the server if it died."""
        status = self.reap()
        now = time.monotonic()
        if status is not None:
            if now - self._started_at > _STEADY_SECONDS:
                self._pause = 0.1
            self._next_start = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            self._log.write(f"the server ended unexpectedly (wait status {status}): it will be started again")
        if self._pid is None:
            if now >= self._next_start:
                self.try_start()
        else:
            self._end_smart_stop(now)

    def _end_smart_stop(self, now: float) -> None:
        assert self._pid is not None
        if find_status(self._cluster, self._pid) != "stopping":
            self._stopping_since = 0.0
        elif not self._stopping_since:
            self._stopping_since = now
        elif now - self._stopping_since > _STOPPING_SECONDS:
            os.kill(self._pid, signal.SIGINT)
            self._stopping_since = now

    def stop(self) -> None:
        """Stop the server, by force if it must be, and wait for the last of its processes."""
        for number, seconds in _WAYS_TO_STOP:
            if self._pid is None:
                break
            os.kill(self._pid, number)
            deadline = time.monotonic() + seconds
            while self._pid is not None and time.monotonic() < deadline:
                self.reap()
                time.sleep(_TICK_SECONDS / 2)
        self._wait_for_rest()

    def _wait_for_rest(self) -> None:
        lock = open_lock(self._home.path / "server.lock")
        deadline = time.monotonic() + 5
        while not try_lock(lock) and time.monotonic() < deadline:
            self.reap()
            time.sleep(_TICK_SECONDS)
        os.close(lock)
        self.reap()
