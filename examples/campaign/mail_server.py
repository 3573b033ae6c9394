"""A mail server for tries, on loopback: it keeps what it takes in memory, refuses some addresses for good,
and every so often it fails for the moment.  As much of SMTP as a client needs to send a mail, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import Message

MAX_MAIL_BYTES = 1 << 20
MAX_LINE_BYTES = 1_000


class FakeMailServer:
    """What it took, in order: `taken`."""

    def __init__(self, *, fails_every: int = 0, refuses: Collection[str] = ()) -> None:
        """`fails_every`: of so many mails one gets 451 at first; 0 for none."""
        self.taken: list[Message] = []
        self.failures = 0
        self.port = 0
        self._fails_every = fails_every
        self._refuses = refuses
        self._asked = 0

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Serve while this is open."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_LINE_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())

        try:
            say("220 mail.example.org")
            while line := (await reader.readline()).decode("ascii", "replace").strip():
                verb = line[:4].upper()
                if verb in ("EHLO", "HELO"):
                    say("250 mail.example.org")
                elif verb == "MAIL":
                    self._asked += 1
                    fails = self._fails_every and self._asked % self._fails_every == 0
                    self.failures += bool(fails)
                    say("451 try again" if fails else "250 ok")
                elif verb == "RCPT":
                    address = line[line.find("<") + 1 : line.rfind(">")]
                    say("550 nobody of that name" if address in self._refuses else "250 ok")
                elif verb == "DATA":
                    say("354 go on")
                    await writer.drain()
                    body = await _body(reader)
                    # Taken before it says so, as a server that keeps its word does.
                    self.taken.append(message_from_bytes(body))
                    say("250 taken")
                elif verb == "QUIT":
                    say("221 bye")
                    await writer.drain()
                    break
                else:
                    say("250 ok")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass  # the client is gone, or says more than it may
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader) -> bytes:
    lines = bytearray()
    while (line := await reader.readline()) != b".\r\n":
        if not line or len(lines) > MAX_MAIL_BYTES:
            raise ConnectionError("the mail did not end")
        lines += line.removeprefix(b".")
    return bytes(lines)
