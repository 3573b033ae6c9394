"""The e-mail campaign, over HTTP: every mail is sent, and none is marked without being sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.client import AsyncWorkflowClient, RunUnsuccessful, Step
from holdfast.examples.campaign.campaign import Campaign, CampaignReport, validate_recipients
from holdfast.examples.campaign.mail import Mailer
from holdfast.examples.campaign.mail_server import FakeMailServer
from holdfast.examples.campaign.service import campaign_app
from holdfast.storage.check import check
from tests.client.server import server_process
from tests.examples.campaign_server import MAIL_PORT, TOKEN
from tests.service.support import serving

READERS = [f"reader{n}@example.org" for n in range(40)]
REFUSED = "nobody@example.org"
CAMPAIGN = msgspec.to_builtins(
    Campaign("Spring", "It is spring.\n.dots stay", [*READERS, REFUSED, "no address"])
)


def recipients(mails: FakeMailServer) -> Tally[str]:
    return Tally(str(mail["To"]) for mail in mails.taken)


async def start(client: AsyncWorkflowClient, campaign: Any = CAMPAIGN) -> str:
    return await client.start(
        "SendCampaign", campaign, ref=("campaign", "spring"), metadata={"department": "marketing"}
    )


async def test_a_campaign_whose_service_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reader got it; a mail that was sent twice has the same Message-ID; the stream told it all."""
    mails = FakeMailServer(fails_every=4, refuses={REFUSED})
    told: list[dict[str, int]] = []
    async with mails.serving():
        monkeypatch.setenv(MAIL_PORT, str(mails.port))
        async with (
            server_process(folder, "tests.examples.campaign_server") as server,
            AsyncWorkflowClient(server.url, TOKEN) as client,
        ):
            run_id = await start(client)

            async def follow() -> None:
                async with aclosing(client.stream("SendCampaign", run_id)) as updates:
                    async for update in updates:
                        told.extend(event.data for event in update.progress)  # type: ignore[misc]

            following = asyncio.create_task(follow())
            for wanted in (8, 16, 24):
                async with asyncio.timeout(60):
                    while len(mails.taken) < wanted:  # noqa: ASYNC110  # nobody tells
                        await asyncio.sleep(0.001)
                await server.kill()
                marked = await marked_as_sent(folder)
                assert marked <= recipients(mails).keys()
                await server.start()
            report = await client.result("SendCampaign", run_id, timeout=60, into=CampaignReport)
            async with asyncio.timeout(60):
                await following
            (run,) = await client.by_ref("campaign", "spring")
            details = await client.get("SendCampaign", run_id)
    assert sorted(report.sent) == sorted(READERS)
    assert (report.refused, report.invalid) == ([REFUSED], ["no address"])
    assert recipients(mails).keys() == set(READERS)
    twice = sum(count - 1 for count in recipients(mails).values())
    assert twice <= 3 * 4  # those that were on their way when it was killed
    assert len({str(mail["Message-ID"]) for mail in mails.taken}) == len(READERS)
    assert told[-1] == {"sent": 40, "refused": 1, "of": 41}
    done = [one["sent"] + one["refused"] for one in told]
    assert done == sorted(set(done))
    assert run.metadata == {"department": "marketing", "started_by": "marketing"}
    assert (run.id, run.state) == (run_id, "done")
    assert {step.name for step in details.steps} == {"validate-recipients", "send-emails"}
    assert check(folder) == []


async def marked_as_sent(folder: Path) -> set[str]:
    """Recipients whose mail a step has recorded as sent, in the order in which they are asked for."""
    from holdfast.actors.folder_view import FolderView
    from holdfast.actors.workflow.journal import StepDone

    with FolderView(folder) as view:
        (records,) = view.journals().values()
    valid = validate_recipients(CAMPAIGN["recipients"]).valid
    return {
        valid[record.nth - 1]
        for record in records
        if isinstance(record, StepDone) and record.name == "send-emails"
    }


@asynccontextmanager
async def campaigns(folder: Path, mail_port: int) -> AsyncIterator[AsyncWorkflowClient]:
    """A client of the service in this process."""
    async with (
        campaign_app(folder, Mailer("127.0.0.1", mail_port), TOKEN) as app,
        serving(app) as address,
        AsyncWorkflowClient(f"http://{address}", TOKEN) as client,
    ):
        yield client


async def test_a_mail_server_that_is_down(folder: Path) -> None:
    """The run waits for it, with the time of the next attempt; redriven with a good server it ends well."""
    mails = FakeMailServer()
    async with mails.serving():
        pass  # gone again
    async with campaigns(folder, mails.port) as client:
        run_id = await start(client, msgspec.to_builtins(Campaign("s", "b", READERS[:1])))
        failing: list[Step] = []
        async with aclosing(client.stream("SendCampaign", run_id)) as updates:
            async for update in updates:
                failing = [step for step in update.steps if step.status == "retrying"]
                if failing:
                    break
        assert failing[0].name == "send-emails"
        assert failing[0].error is not None
        assert not failing[0].error.fatal
        assert failing[0].next_attempt_at is not None
        assert failing[0].next_attempt_at > failing[0].at


async def test_a_campaign_for_nobody(folder: Path) -> None:
    """It fails at once, and isn't tried again."""
    async with campaigns(folder, 1) as client:
        run_id = await start(client, msgspec.to_builtins(Campaign("s", "b", [])))
        with pytest.raises(RunUnsuccessful, match="without recipients"):
            await client.result("SendCampaign", run_id, timeout=30)
        (step,) = (await client.get("SendCampaign", run_id)).steps
        assert step.attempts == 1
        assert step.error is not None
        assert step.error.fatal


def test_recipients_are_checked() -> None:
    """Each once, in order, without what is no address."""
    checked = validate_recipients(["A@example.org", "b@example.org ", "a@example.org", "c@x", "d"])
    assert checked.valid == ["a@example.org", "b@example.org"]
    assert checked.invalid == ["c@x", "d"]


def test_the_demo_runs(tmp_path: Path) -> None:
    """As its docstring says it is started."""
    command = [sys.executable, "-m", "holdfast.examples.campaign", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "8 sent, 1 refused, 1 invalid" in done.stdout
