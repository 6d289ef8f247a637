"""Send a letter: over SMTP, in a thread, with TLS unless the operator says otherwise."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final, Literal, Protocol

from simples3dms.kit.secret import Secret

_TIMEOUT_SECONDS: Final = 20.0
_DOMAIN: Final = "simples3dms.invalid"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """A letter in plain text. Its text may hold a link that lets somebody in: it is never shown or logged.

    `mark`: the same each time that it is sent, for one whose text is the same: where it comes twice, mail programs can
    tell, and show it once. None for one that holds another secret each time, of which the newest counts.
    """

    to: str
    subject: str
    text: Secret
    mark: str | None = None


class MailFailed(Exception):
    """The letter was not taken. `is_final`: it never will be, whatever is mended on our side."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.message, self.is_final = message, is_final


class Mailer(Protocol):
    """The way out for letters."""

    async def send(self, message: Message) -> None:
        """Hand the letter over; when this returns somebody else answers for it. Raises MailFailed. May be repeated:
        the letter may then come twice."""


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach the server. `tls`: from the beginning, after STARTTLS, or not at all."""

    host: str
    port: int
    sender: str
    tls: Literal["tls", "starttls", "none"] = "starttls"
    username: str | None = None
    password: Secret | None = None
    ca_file: str | None = None


class SmtpMailer:
    """One connection for each letter: they are few."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings

    async def send(self, message: Message) -> None:
        letter = self._write(message)
        try:
            await asyncio.to_thread(self._hand_over, letter, message.to)
        except smtplib.SMTPRecipientsRefused as error:
            code = max((code for code, _ in error.recipients.values()), default=550)
            raise MailFailed(f"The mail server refuses the address ({code}).", is_final=code >= 500) from None
        except smtplib.SMTPResponseException as error:
            raise MailFailed(f"The mail server says {error.smtp_code}.", is_final=False) from None
        except (smtplib.SMTPException, OSError) as error:
            raise MailFailed(f"The mail server can't be used: {type(error).__name__}.", is_final=False) from None

    def _write(self, message: Message) -> EmailMessage:
        letter = EmailMessage()
        try:
            # One address and no more, whatever characters somebody has put into it.
            letter["To"] = Address(addr_spec=message.to)
            letter["From"] = self._settings.sender
            letter["Subject"] = " ".join(message.subject.split())
        except (ValueError, MessageError, IndexError):
            raise MailFailed("The address can't be written to.", is_final=True) from None
        letter["Date"] = formatdate()
        mark = f"<{message.mark}@{_DOMAIN}>" if message.mark is not None else make_msgid(domain=_DOMAIN)
        letter["Message-ID"] = mark
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.text.reveal())
        return letter

    def _hand_over(self, letter: EmailMessage, to: str) -> None:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.ca_file)
        where: dict[str, Any] = {"host": settings.host, "port": settings.port, "timeout": _TIMEOUT_SECONDS}
        made = smtplib.SMTP_SSL(**where, context=context) if settings.tls == "tls" else smtplib.SMTP(**where)
        with made as server:
            if settings.tls == "starttls":
                server.starttls(context=context)
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password.reveal())
            server.send_message(letter, to_addrs=[to])
