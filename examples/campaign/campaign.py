"""`SendCampaign`: check the recipients, then send each one its mail, with retries.

    validate-recipients   good and bad addresses, each once
    send-emails           one step a mail, some at the same time; what the server refuses for good is noted

A mail is marked as sent by the record of its step, which is made when the server has taken it: none is marked
without being sent.  Where the process dies between the two the mail is sent once more, with the same
Message-ID, by which mail servers and readers see that it is the same.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec

from holdfast import Fatal, Retry, StepError, Workflow

from .mail import Mail, Mailer

CAMPAIGN: Final = "campaign"
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


class Campaign(msgspec.Struct, frozen=True):
    """What is to be sent to whom."""

    subject: str
    body: str
    recipients: list[str]
    sender: str = "news@example.org"


class Recipients(msgspec.Struct, frozen=True):
    """Recipients, checked."""

    valid: list[str]
    invalid: list[str]


class CampaignReport(msgspec.Struct, frozen=True):
    """What became of a campaign."""

    sent: list[str]
    refused: list[str]
    """The mail server takes nothing for them."""
    invalid: list[str]


class SendCampaign(Workflow):
    """One campaign."""

    retry = Retry(8, "0.1s", "exponential", cap="5s")
    step_timeout = "20s"
    at_once = 4

    async def run(self, campaign: Campaign) -> CampaignReport:
        """Both stages, and what became of each mail."""
        self.set_status("validating")
        recipients: Recipients = await self.step(
            validate_recipients, campaign.recipients, name="validate-recipients"
        )
        self.set_status("sending")
        sent: list[str] = []
        refused: list[str] = []
        for first in range(0, len(recipients.valid), self.at_once):
            several = recipients.valid[first : first + self.at_once]
            outcomes = await asyncio.gather(*(self._send(campaign, one) for one in several))
            for recipient, was_sent in zip(several, outcomes, strict=True):
                (sent if was_sent else refused).append(recipient)
            self.emit("progress", {"sent": len(sent), "refused": len(refused), "of": len(recipients.valid)})
        self.set_status("done")
        return CampaignReport(sent, refused, recipients.invalid)

    async def _send(self, campaign: Campaign, recipient: str) -> bool:
        try:
            await self.step(self.send_email, campaign, recipient, name="send-emails")
        except StepError as error:
            if not error.cause.fatal:
                raise  # the server is down for longer than the retries: the run fails, and can be redriven
            return False
        return True

    async def send_email(self, campaign: Campaign, recipient: str) -> None:
        """Step 2, for one recipient; a step that ends well has sent it."""
        message_id = f"<{self.key}.{recipient.replace('@', '.at.')}@campaign.example.org>"
        mail = Mail(message_id, campaign.sender, recipient, campaign.subject, campaign.body)
        await self.runtime.deps.get(Mailer).send(mail)


def validate_recipients(recipients: list[str]) -> Recipients:
    """Step 1: each address once, in the order in which they came."""
    if not recipients:
        raise Fatal("a campaign without recipients")
    once = list(dict.fromkeys(one.strip().lower() for one in recipients))
    valid = [one for one in once if _ADDRESS.fullmatch(one) and one.isascii()]
    return Recipients(valid, [one for one in once if one not in valid])
