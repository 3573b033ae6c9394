"""All of it in one process: a mail server that fails now and then, the service, and a client that follows."""

from __future__ import annotations

import asyncio
import secrets
import sys
from contextlib import aclosing
from pathlib import Path

import msgspec
import uvicorn

from holdfast.client import AsyncWorkflowClient

from .campaign import CAMPAIGN, Campaign, CampaignReport
from .mail import Mailer
from .mail_server import FakeMailServer
from .service import campaign_app


async def demo(folder: Path) -> None:
    """Send a campaign, and print how it goes."""
    mails = FakeMailServer(fails_every=3, refuses={"nobody@example.org"})
    token = secrets.token_urlsafe()
    campaign = Campaign(
        "Spring", "It is spring.", [f"reader{n}@example.org" for n in range(8)] + ["nobody@example.org", "no"]
    )
    async with mails.serving(), campaign_app(folder, Mailer("127.0.0.1", mails.port), token) as app:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with AsyncWorkflowClient(f"http://127.0.0.1:{port}", token) as client:
            run_id = await client.start(
                "SendCampaign",
                msgspec.to_builtins(campaign),
                ref=(CAMPAIGN, "spring"),
                metadata={"department": "marketing"},
            )
            async with aclosing(client.stream("SendCampaign", run_id)) as updates:
                async for update in updates:
                    for event in update.progress:
                        print(event.name, event.data)
            report = await client.result("SendCampaign", run_id, into=CampaignReport)
            print(f"{len(report.sent)} sent, {len(report.refused)} refused, {len(report.invalid)} invalid")
            print(f"the mail server failed {mails.failures} times and took {len(mails.taken)} mails")
        server.should_exit = True
        await serving


def main() -> None:
    """`python -m holdfast.examples.campaign [FOLDER]`."""
    asyncio.run(demo(Path(sys.argv[1] if len(sys.argv) > 1 else "campaigns")))
