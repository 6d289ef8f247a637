"""Mail: the one interface by which letters leave the house, and SMTP behind it."""

from simples3dms.mail.mailer import Mailer, MailFailed, Message, SmtpMailer, SmtpSettings

__all__ = ["MailFailed", "Mailer", "Message", "SmtpMailer", "SmtpSettings"]
