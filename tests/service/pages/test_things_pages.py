"""service/pages: dead letters, queues, schedules, hub, store, audit; looked at in a real browser."""

from __future__ import annotations

from playwright.async_api import expect

from holdfast import Actor, Batch, Queue, Retry, RunFailed, Schedule, WebSocketHub, Workflow, shared
from holdfast.actors.queue_info import queue_info
from tests.actors.workflow.support import until
from tests.service.pages.support import ACME, PHONE, VIEWER, Site, check_page

GATE: list[bool] = []


async def paged_call(number: int) -> int:
    if not GATE:
        raise OSError(f"no answer to {number}" if number % 2 else "<b>refused</b>")
    return number


class PagedCall(Workflow):
    """Fails until the gate is open."""

    retry = Retry(0)

    async def run(self, number: int) -> int:
        return await self.step(paged_call, number)


class PagedNight(Workflow):
    """What the schedule starts."""

    async def run(self) -> None:
        return None


async def fail(site: Site, *numbers: int) -> None:
    GATE.clear()
    for number in numbers:
        run = await site.rt.start(PagedCall, number, id=f"call-{number}")
        try:
            await run.result()
        except RunFailed:
            pass


async def test_dead_letters_are_grouped_by_cause(served: Site) -> None:
    """Failures that differ in a number alone are one group, which is redriven after a count."""
    await fail(served, 1, 3, 5, 2)
    page = await served.window()
    await page.goto(f"{served.base}/dead-letters")
    await expect(page.locator(".cause-count")).to_have_text(["3", "1"])
    await expect(page.locator(".cause").nth(1)).to_contain_text("<b>refused</b>")
    await check_page(page)
    GATE.append(True)
    group = page.locator(".cause").first
    await group.get_by_label("Reason").fill("it answers again")
    await group.get_by_role("button", name="Redrive all").click()
    await expect(page.locator(".big-number")).to_have_text("3")
    await check_page(page)
    assert await served.rt.run(PagedCall, "call-1").status() == "failed"
    await page.get_by_role("button", name="Redrive 3").click()
    await expect(page.get_by_role("status")).to_have_text("Redrive: done to 3 of 3.")
    for number in (1, 3, 5):
        assert await served.rt.run(PagedCall, f"call-{number}").result() == number
    await expect(page.locator(".cause")).to_have_count(1)
    await page.get_by_label("Reason").fill("nobody wants it")
    await page.get_by_role("button", name="Drop").click()
    await page.get_by_role("button", name="Drop 1").click()
    await expect(page.get_by_role("status")).to_have_text("Drop: done to 1 of 1. They are gone in a moment.")
    await until(lambda: not served.rt.runs(status="failed"))
    await page.reload()
    await expect(page.locator("main")).to_contain_text("There are none.")


class PagedCart(Actor):
    """A cart."""

    items: dict[str, int] = {}
    note: str = ""

    async def add(self, sku: str, count: int = 1, gift: bool = False) -> int:
        """Put something in."""
        if count < 1:
            raise ValueError(f"<b>{count}</b> of {sku}")
        self.items[sku] = self.items.get(sku, 0) + count
        return self.items[sku]

    @shared
    async def kinds(self, extra: list[str]) -> list[str]:
        return [*self.items, *extra]


async def test_an_actor_is_called_and_edited(served: Site) -> None:
    """A form made of the method's types, its reply or what it raised; an edit with a reason."""
    rt = served.rt
    await rt.get(PagedCart, "ann/1").add("<i>tea</i>")
    await rt.get(PagedCart, "bo").add("milk")
    page = await served.window()
    await page.goto(f"{served.base}/actors")
    await check_page(page)
    await page.get_by_role("link", name="PagedCart").click()
    await check_page(page)
    await page.get_by_label("Keys that begin with").fill("ann")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator(".keys li")).to_have_count(1)
    await page.get_by_role("link", name="ann/1").click()
    await expect(page.locator("#fields")).to_contain_text("<i>tea</i>")
    await check_page(page)
    await page.locator("summary", has_text="add").click()
    await page.get_by_label("sku").fill("salt")
    await page.get_by_label("count").fill("2")
    await page.get_by_label("gift").select_option("true")
    await page.locator("#method-1").get_by_label("Reason").fill("forgotten")
    await page.get_by_role("button", name="Call add").click()
    await expect(page.get_by_role("status")).to_have_text("add replied 2")
    await expect(page.locator("#fields")).to_contain_text("salt")
    await page.locator("summary", has_text="add").click()
    await page.get_by_label("sku").fill("salt")
    await page.get_by_label("count").fill("0")
    await page.get_by_role("button", name="Call add").click()
    await expect(page.get_by_role("status")).to_have_text("add raised ValueError: <b>0</b> of salt")
    await page.locator("summary", has_text="kinds").click()
    await page.get_by_label("extra").fill('["x"]')
    await page.get_by_role("button", name="Call kinds").click()
    await expect(page.get_by_role("status")).to_contain_text('"x"')
    await page.locator("#edit summary").click()
    await check_page(page)
    await page.get_by_label("Fields, as JSON").fill('{"items": {"salt": 7}, "note": "<u>x</u>"}')
    await page.locator("#edit-reason").fill("counted again")
    await page.get_by_role("button", name="Write these fields").click()
    await expect(page.get_by_role("status")).to_have_text("Changed: items, note.")
    assert await rt.get(PagedCart, "ann/1").add("salt") == 8
    assert [(one.verb, one.reason) for one in rt.audit()][:1] == [("edit", "counted again")]
    await page.goto(f"{served.base}/audit?verb=call")
    await expect(page.locator("#rows tbody tr")).to_have_count(1)
    await expect(page.locator("#rows")).to_contain_text("forgotten")


async def test_a_queue_is_looked_at_and_steered(served: Site) -> None:
    """What waits, who consumes, pausing, sending."""
    rt = served.rt
    await rt.get(Queue, "mails").send({"to": "<i>ann</i>"})
    page = await served.window()
    await page.goto(f"{served.base}/queues")
    await check_page(page)
    await page.get_by_role("link", name="mails").click()
    await expect(page.locator("#messages")).to_contain_text("<i>ann</i>")
    await check_page(page)
    await page.locator("#verb-pause summary").click()
    await page.locator("#r-pause").fill("the printer burns")
    await page.locator("#verb-pause").get_by_role("button", name="Pause").click()
    await expect(page.locator("#status")).to_have_text("paused")
    await page.get_by_text("Send a message").click()
    await page.get_by_label("Body, as JSON").fill('{"to": "bo"}')
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.locator("#messages tbody tr")).to_have_count(2)
    assert (await rt.get(Queue, "mails").stats()).depth == 2
    await page.goto(f"{served.base}/audit")
    await expect(page.locator("#rows")).to_contain_text("the printer burns")
    await check_page(page)


async def test_a_dead_message_is_sent_again_with_another_body(served: Site) -> None:
    """The body can be changed where the message is sent again; another one is deleted."""
    rt = served.rt
    seen: list[object] = []

    async def take(batch: Batch[object]) -> None:
        for message in batch:
            seen.append(message.body)
            if message.body != "good":
                raise ValueError("<u>bad</u> body")

    rt.consume("letters", take, batch_size=1, retry=Retry(0))
    await rt.get(Queue, "letters").send_batch(["bad", "worse"])
    ref = rt.get(Queue, "letters")
    await until(lambda: queue_info(rt, ref).dead == 2)  # type: ignore[arg-type]
    page = await served.window()
    await page.goto(f"{served.base}/queues/Queue/letters")
    letters = page.locator(".letter")
    await letters.first.locator("summary").click()
    await expect(letters.first).to_contain_text("ValueError: <u>bad</u> body")
    await check_page(page)
    await letters.first.get_by_label("Body, as JSON").fill('"good"')
    await letters.first.get_by_role("button", name="Send again").click()
    await expect(page.locator(".letter")).to_have_count(1)
    await until(lambda: "good" in seen)
    await letters.first.locator("summary").click()
    await letters.first.get_by_role("button", name="Delete").click()
    await expect(page.locator("#dead")).to_have_text("No message has spent its attempts.")


async def test_a_schedule_is_looked_at_and_steered(served: Site) -> None:
    """Next times, triggering, pausing with a reason."""
    await served.rt.schedule("nightly", PagedNight, cron="0 3 * * *", tz="Europe/Zurich")
    page = await served.window()
    await page.goto(f"{served.base}/schedules")
    await check_page(page)
    await page.get_by_role("link", name="nightly").click()
    await expect(page.locator("#next li")).to_have_count(10)
    await check_page(page)
    await page.locator("#verb-trigger summary").click()
    await page.get_by_role("button", name="Trigger").click()
    await expect(page.get_by_role("status")).to_contain_text("is started.")
    await page.locator("#recent a").first.click()
    await expect(page.locator("#status")).to_contain_text("complete")
    await page.go_back()
    await page.locator("#verb-pause summary").click()
    await page.locator("#r-pause").fill("holidays")
    await page.locator("#verb-pause").get_by_role("button", name="Pause").click()
    await expect(page.locator("#facts")).to_contain_text("holidays")
    info = await served.rt.get(Schedule, "nightly").info()
    assert info.pause is not None
    assert info.pause.by == "otto"


class PagedNews(WebSocketHub):
    """A hub."""


async def test_a_hub_shows_topics_and_sockets(served: Site) -> None:
    """What was published and who is connected."""
    rt = served.rt
    hub = rt.get(PagedNews, "news")
    await hub.publish("<em>weather</em>", "sun")
    async with rt.sockets.connect(hub, topics={"<em>weather</em>": None}, user="ann"):
        page = await served.window()
        await page.goto(f"{served.base}/hub")
        await expect(page.locator("#hubs")).to_contain_text("<em>weather</em>")
        await expect(page.locator("#hubs")).to_contain_text("1 socket in this process")
        await check_page(page)


async def test_the_store_is_checked(served: Site) -> None:
    """Sizes, and a check that reads everything."""
    await fail(served, 1)
    page = await served.window()
    await page.goto(f"{served.base}/store")
    await check_page(page)
    await page.get_by_role("button", name="Check all of it").click()
    await expect(page.get_by_role("status")).to_contain_text("found nothing wrong")


async def test_on_a_phone_tables_scroll_and_pages_do_not(served: Site) -> None:
    """In the dark, too: labels, contrast and width of every page."""
    rt = served.rt
    await fail(served, 1, 2)
    await rt.get(PagedCart, "ann").add("tea")
    await rt.get(Queue, "mails").send("x")
    await rt.schedule("nightly", PagedNight, cron="0 3 * * *")
    await rt.get(PagedNews, "news").publish("weather", "sun")
    await rt.run(PagedCall, "call-1").purge(by="ann", reason="because " * 20)
    page = await served.window(scheme="dark", size=PHONE)
    for path in (
        "dead-letters", "actors", "actors/PagedCart", "actors/PagedCart/ann", "queues", "queues/Queue/mails",
        "schedules", "schedules/nightly", "hub", "store", "audit",
    ):  # fmt: skip
        await page.goto(f"{served.base}/{path}")
        await expect(page.locator(".refused")).to_have_count(0)
        await check_page(page)


async def test_tenants_and_viewers_see_what_is_theirs(served: Site) -> None:
    """What is no tenant's isn't there for a tenant; a viewer has no verbs."""
    served.expected = ("Failed to load resource",)
    await served.rt.get(Queue, "mails").send("x")
    page = await served.window(ACME)
    for path in ("queues", "queues/Queue/mails", "actors", "hub", "store", "audit"):
        await page.goto(f"{served.base}/{path}")
        await expect(page.locator("main")).to_contain_text("is tenant acme's")
        assert await page.locator("#menu a", has_text=path.title()).count() == 0
    await served.rt.schedule("ours", PagedNight, cron="0 3 * * *", tenant="acme")
    await served.rt.schedule("theirs", PagedNight, cron="0 3 * * *")
    await page.goto(f"{served.base}/schedules")
    await expect(page.locator("#rows tbody tr")).to_have_count(1)
    await page.goto(f"{served.base}/schedules/theirs")
    await expect(page.locator("main")).to_contain_text("there is no schedule")
    page = await served.window(VIEWER)
    await page.goto(f"{served.base}/queues/Queue/mails")
    await expect(page.locator("h1")).to_have_text("mails")
    await expect(page.locator("form[method=post]")).to_have_count(2)  # colours, sign out
