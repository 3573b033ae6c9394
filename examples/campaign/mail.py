"""How a mail leaves: by SMTP, to the server that the runtime's `deps` know."""

from __future__ import annotations

import asyncio
import smtplib
from email.message import EmailMessage
from typing import NamedTuple

from holdfast import Fatal

SMTP_SECONDS = 10.0


class Mail(NamedTuple):
    """One mail to one recipient."""

    message_id: str
    sender: str
    recipient: str
    subject: str
    body: str


class Mailer:
    """A mail server: one connection for each mail."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail.

        Raises `Fatal` where it says that it never will (5xx), and what smtplib raises where it may later.
        """
        await asyncio.to_thread(self._send, mail)

    def _send(self, mail: Mail) -> None:
        message = EmailMessage()
        message["Message-ID"] = mail.message_id
        message["From"] = mail.sender
        message["To"] = mail.recipient
        message["Subject"] = mail.subject
        message.set_content(mail.body)
        try:
            with smtplib.SMTP(self._host, self._port, timeout=SMTP_SECONDS) as server:
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as refused:
            code, said = next(iter(refused.recipients.values()))
            if code >= 500:
                raise Fatal(f"{mail.recipient}: {code} {said.decode('utf-8', 'replace')}") from refused
            raise
