"""The campaigns' service in a process of its own; the mail server is the test's."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.examples.campaign.mail import Mailer
from holdfast.examples.campaign.service import serve_campaigns

TOKEN = "campaign-campaign-1"
MAIL_PORT = "CAMPAIGN_MAIL_PORT"


async def serve(folder: str, port: int) -> None:
    """Serve a folder until the process is killed."""
    await serve_campaigns(Path(folder), Mailer("127.0.0.1", int(os.environ[MAIL_PORT])), TOKEN, port)
