"""A real mail server in a thread of the test: it keeps what it is given, and can refuse or vanish."""

from __future__ import annotations

import email
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from simples3dms.sandbox.ports import free_port_block


class Mailbox:
    """What came, and what to answer."""

    def __init__(self) -> None:
        self.came: list[tuple[list[str], Message]] = []
        self.answer = "250 OK"
        self.refuses: str | None = None
        self._lock = threading.Lock()

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if self.refuses is not None:
            return self.refuses
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if self.answer.startswith("250"):
            with self._lock:
                self.came.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=default)))
        return self.answer

    def links(self) -> list[str]:
        """The links in what came, in order."""
        return [found for _, letter in self.came for found in re.findall(r"https?://\S+", letter.get_content())]  # type: ignore[attr-defined]


@contextmanager
def mail_server(**given: Any) -> Iterator[tuple[Mailbox, int]]:
    """A mailbox and the port of its server."""
    box, port = Mailbox(), free_port_block(1)
    controller = Controller(box, hostname="127.0.0.1", port=port, **given)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()
