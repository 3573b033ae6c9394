"""service/pages: the overview, runs, one run, its history; looked at in a real browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import msgspec
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from holdfast import Fatal, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.handle import Run
from holdfast.runtime.clock import ManualClock
from holdfast.service.pages import runs
from tests.actors.workflow.support import until, until_status
from tests.service.pages.support import ACME, PHONE, VIEWER, Site, check_page, site

HOSTILE = "<img/src=x/onerror=\"document.title='owned'\"><script>document.title='owned'</script>'\"&{{7*7}}"


class Basket(msgspec.Struct):
    """What is packed."""

    what: str
    fails: bool = False
    declined: bool = False


async def paged_pack(what: str) -> str:
    return f"packed {what}"


async def paged_pay(fails: bool, declined: bool, what: str) -> int:
    if declined:
        raise Fatal(f"declined: {what}")
    if fails:
        raise OSError("no answer")
    return 7


class PagedOrder(Workflow):
    """Packs, pays, waits to be let go."""

    retry = Retry(2, "1h")

    async def run(self, basket: Basket) -> str:
        self.set_status("packing")
        await self.step(paged_pack, basket.what)
        await self.step(paged_pay, basket.fails, basket.declined, basket.what)
        self.data["what"] = basket.what
        self.tags["kind"] = "tea"
        event = await self.wait("go")
        return f"gone with {event.payload}"


async def waiting(site: Site, id_: str = "w-1", *, tenant: str | None = None) -> Run[str]:
    run = await site.rt.start(PagedOrder, Basket("tea"), id=id_, tenant=tenant)
    await until_status(run, "waiting")
    return run


async def failed(site: Site, id_: str = "f-1") -> Run[str]:
    run = await site.rt.start(PagedOrder, Basket("tea", declined=True), id=id_)
    try:
        await run.result()
    except RunFailed:
        pass
    return run


def tile(page: Page, label: str) -> Locator:
    """The figure with a label."""
    return page.locator(f".tile:has(.tile-label:text-is('{label}')) .tile-value")


async def to_run(site: Site, page: Page, id_: str) -> None:
    await page.goto(f"{site.base}/runs/PagedOrder/{id_}")


async def test_the_overview_counts_and_stays_up_to_date(served: Site) -> None:
    """What is started while somebody looks is there without a reload."""
    await failed(served)
    page = await served.window()
    await expect(tile(page, "Dead")).to_have_text("1")
    await expect(page.locator("#trouble")).to_contain_text("StepError")
    await check_page(page)
    await waiting(served)
    await expect(tile(page, "Waiting")).to_have_text("1")
    await expect(page.locator("#newest")).to_contain_text("w-1")
    await expect(page.locator("#live")).to_have_text("live")


async def test_filters_stand_in_the_address(served: Site) -> None:
    """What the form of filters asks for is an address that can be given on."""
    await failed(served)
    await waiting(served)
    page = await served.window()
    await page.goto(f"{served.base}/runs")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await check_page(page)
    await page.get_by_label("failed").check()
    await page.get_by_label("Workflow").select_option("PagedOrder")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    assert "status=failed" in page.url
    assert "workflow=PagedOrder" in page.url
    await page.goto(f"{served.base}/runs?tag=kind:tea")
    await expect(page.locator("tbody .row-link code")).to_have_text(["w-1"])
    served.expected = ("Failed to load resource",)
    await page.goto(f"{served.base}/runs?status=asleep")
    await expect(page.locator("main")).to_contain_text("status is one of")


async def test_many_runs_come_in_pages(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is on one of the pages, once, the newest first."""
    monkeypatch.setattr(runs, "PAGE_ROWS", 3)
    for number in range(7):
        await served.rt.start(PagedOrder, Basket("tea"), id=f"n-{number}")
    page = await served.window()
    await page.goto(f"{served.base}/runs")
    seen = await page.locator("tbody .row-link code").all_inner_texts()
    for _ in range(2):
        await page.get_by_role("link", name="Next page").click()
        await expect(page.get_by_role("link", name="First page")).to_be_visible()
        await check_page(page)
        seen += await page.locator("tbody .row-link code").all_inner_texts()
    assert seen == [f"n-{number}" for number in reversed(range(7))]


async def test_a_view_is_kept_in_this_browser(served: Site) -> None:
    """A saved view leads back to its filters, until it is forgotten."""
    page = await served.window()
    await page.goto(f"{served.base}/runs?status=stuck")
    await page.fill("#views-name", "broken")
    await page.get_by_role("button", name="Save this view").click()
    await page.goto(f"{served.base}/runs")
    await page.get_by_role("link", name="broken").click()
    await expect(page).to_have_url(f"{served.base}/runs?status=stuck")
    await page.get_by_role("button", name="Forget view broken").click()
    await expect(page.get_by_role("link", name="broken")).to_have_count(0)


async def test_many_runs_are_counted_before_anything_is_done(served: Site) -> None:
    """The first answer to a verb over many runs is how many; the second is the deed, with its reason."""
    runs = [await waiting(served, f"w-{n}") for n in range(3)]
    page = await served.window()
    await page.goto(f"{served.base}/runs?status=waiting")
    await page.get_by_text("Do something to all of these").click()
    await page.get_by_label("What").select_option("cancel")
    await page.get_by_label("Reason").fill("ordered twice")
    await page.get_by_role("button", name="Count first").click()
    await expect(page.locator(".big-number")).to_have_text("3")
    await check_page(page)
    assert await runs[0].status() == "waiting"
    await page.get_by_role("button", name="Cancel 3 runs").click()
    await expect(page.get_by_role("status")).to_have_text("cancel: done to 3 of 3 runs.")
    for run in runs:
        try:
            await run.result()
        except RunFailed:
            pass
        assert await run.status() == "cancelled"
    assert {(deed.who, deed.verb, deed.reason) for deed in served.rt.audit()} == {
        ("otto", "cancel", "ordered twice")
    }


async def test_a_run_is_followed_to_its_end(served: Site) -> None:
    """Bars, state, data and output change while somebody looks; an event can be sent from the page."""
    await waiting(served)
    page = await served.window()
    await to_run(served, page, "w-1")
    await expect(page.locator(".gantt-item")).to_have_count(3)
    await expect(page.locator(".gantt-item", has_text="go")).to_contain_text("waiting")
    await expect(page.locator("#output")).to_have_text("not yet")
    await expect(page.locator(".hf .is-waiting")).to_contain_text("go")
    await check_page(page)
    await page.get_by_text("Send an event").click()
    await page.get_by_label("Name").fill("go")
    await page.get_by_label("Payload, as JSON").fill('"sugar"')
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.locator("#status .status")).to_have_text("complete")
    await expect(page.locator("#output")).to_contain_text("gone with sugar")
    await expect(page.locator(".marks")).to_contain_text("event go from otto")
    await page.locator(".gantt-item", has_text="paged_pay").locator("summary").click()
    await expect(page.get_by_label("Output of paged_pay")).to_have_text("7")


async def test_a_failed_run_is_redriven_with_another_input(served: Site) -> None:
    """Error and trace are shown; the input can be changed where the run goes on."""
    run = await failed(served)
    page = await served.window()
    await to_run(served, page, "f-1")
    await expect(page.locator("#facts .error h2")).to_have_text("StepError")
    await page.locator("#error-trace summary").click()
    await expect(page.locator("#error-trace pre")).to_contain_text("in run")
    bar = page.locator(".gantt-item", has_text="paged_pay")
    await bar.locator("summary").click()
    await expect(bar.locator(".attempt-error")).to_contain_text("Fatal: declined: tea")
    await check_page(page)
    await page.locator("#verb-redrive summary").click()
    await page.locator("#i-redrive").fill('{"what": "tea", "declined": false}')
    await page.locator("#r-redrive").fill("card was charged")
    await page.get_by_role("button", name="Redrive this run").click()
    await expect(page.locator("#status .status")).to_have_text("waiting")
    assert await run.status() == "waiting"
    [deed] = served.rt.audit()
    assert (deed.who, deed.verb, deed.reason) == ("otto", "redrive", "card was charged")


async def test_a_run_that_is_as_it_was_is_not_made_again(plain: Site) -> None:
    """Who has the page of a run is told by 204 that nothing has come of it since."""
    run = await failed(plain)
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        await client.post("/ui/sign-in", data={"token": VIEWER.secret})
        page = (await client.get("/ui/runs/PagedOrder/f-1")).text
        version = page.partition('data-version="')[2].partition('"')[0]
        again = await client.get("/ui/runs/PagedOrder/f-1", headers={"X-Version": version})
        assert (again.status_code, again.content) == (204, b"")
        await run.redrive()
        again = await client.get("/ui/runs/PagedOrder/f-1", headers={"X-Version": version})
        assert again.status_code == 200


async def test_what_is_being_written_stays(served: Site) -> None:
    """A form that is open isn't replaced under whoever writes into it."""
    await waiting(served)
    page = await served.window()
    await to_run(served, page, "w-1")
    await page.locator("#verb-cancel summary").click()
    await page.locator("#r-cancel").fill("because")
    await waiting(served, "w-2")
    async with page.expect_response(lambda response: response.url.endswith("/runs/PagedOrder/w-1")):
        pass
    await expect(page.locator("#r-cancel")).to_have_value("because")
    await expect(page.locator("#verb-cancel")).to_have_attribute("open", "")


async def test_the_slider_goes_back_in_time(served: Site) -> None:
    """Variables and what was open are those of the record that the slider stands at."""
    await waiting(served)
    page = await served.window()
    await page.goto(f"{served.base}/history/PagedOrder/w-1")
    await expect(page.locator(".facts")).to_contain_text("nothing that was open")
    await expect(page.locator("#moment")).to_contain_text("'tea'")
    await check_page(page)
    await page.locator("#at").focus()
    await page.keyboard.press("Home")
    await expect(page.locator("#at-shown")).to_contain_text("0 of")
    await expect(page.locator(".facts")).to_contain_text("paged_pack")
    await expect(page.locator(".records [aria-current]")).to_contain_text("Started")
    await expect(page).to_have_url(f"{served.base}/history/PagedOrder/w-1?at=0")


async def test_pages_work_without_scripts(served: Site) -> None:
    """Filters, verbs with a reason, the slider: all of it is forms and links."""
    run = await waiting(served)
    page = await served.window(scripts=False)
    await to_run(served, page, "w-1")
    await page.locator("#verb-pause summary").click()
    await page.locator("#r-pause").fill("lunch")
    await page.get_by_role("button", name="Pause this run").click()
    await expect(page.get_by_role("status")).to_have_text("Pause: done.")
    assert await run.status() == "paused"
    await page.goto(f"{served.base}/history/PagedOrder/w-1")
    await page.get_by_role("link", name="Back", exact=True).click()
    await expect(page.locator(".records [aria-current]")).to_have_count(1)
    assert "at=" in page.url
    await page.get_by_role("button", name="dark").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_it_is_used_with_the_keyboard(served: Site) -> None:
    """The first stop is the way to the content; shortcuts are told in a dialog."""
    await waiting(served)
    page = await served.window()
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await page.keyboard.press("g")
    await page.keyboard.press("r")
    await expect(page).to_have_url(f"{served.base}/runs")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("next and previous row")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("/")
    await expect(page.locator("#f-workflow")).to_be_focused()
    await page.locator("h1").click()
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("w-1")


async def test_on_a_phone_nothing_scrolls_sideways(served: Site) -> None:
    """390 px are enough for every page; the menu opens over them."""
    await waiting(served, "a-rather-long-id-that-does-not-break-by-itself-0123456789-0123456789-0123456789")
    await failed(served)
    page = await served.window(scheme="dark", size=PHONE)
    for path in ("/", "/runs", "/runs/PagedOrder/f-1", "/history/PagedOrder/f-1"):
        await page.goto(f"{served.base}{path}")
        await check_page(page)
    await page.get_by_role("button", name="Menu").click()
    await page.locator("#menu").get_by_role("link", name="Runs").click()
    await page.locator(".row-link", has_text="rather-long").click()
    await check_page(page)


async def test_what_users_gave_is_text(served: Site) -> None:
    """Ids, inputs, tags, states, errors, events that look like markup are shown as they are written."""
    rt = served.rt
    tags, ref = {HOSTILE[:60]: HOSTILE[:60]}, ("a<b", HOSTILE)
    await rt.start(PagedOrder, Basket(HOSTILE), id=HOSTILE, tags=tags, ref=ref)
    run = await rt.start(PagedOrder, Basket(HOSTILE, declined=True), id="f", correlation_id=HOSTILE[:90])
    try:
        await run.result()
    except RunFailed:
        pass
    page = await served.window()
    for path in ("/", "/runs", "/runs/PagedOrder/f", "/history/PagedOrder/f", f"/runs?state={HOSTILE}"):
        await page.goto(f"{served.base}{path}")
        assert await page.title() != "owned", path
        assert await page.locator("img").count() == 0, path
        await check_page(page)
    await page.goto(f"{served.base}/runs?ref_type=a%3Cb&ref_id={HOSTILE.replace('&', '%26')}")
    await page.locator(".row-link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    await page.get_by_text("Send an event").click()
    await page.get_by_label("Name").fill("go")
    await page.get_by_label("Payload, as JSON").fill(msgspec.json.encode(HOSTILE).decode())
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.locator("#output")).to_contain_text("document.title='owned'")
    await page.get_by_role("link", name="History").click()
    await expect(page.locator(".records")).to_contain_text("go")
    await check_page(page)
    assert await page.title() != "owned"


class PagedStuck(Workflow):
    """Waits for what never comes."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


class PagedParent(Workflow):
    """Has a child, and a step that is undone."""

    async def run(self) -> str:
        await self.step(paged_pack, "tea", undo=paged_unpack)
        await self.sleep("1ms")
        return await self.child(PagedOrder, Basket("milk"))


async def paged_unpack(what: str) -> None:
    return None


async def test_stuck_paused_and_undone_runs_are_drawn(served: Site) -> None:
    """Why a run is stuck, its child's page, pauses, and what was undone."""
    rt = served.rt
    stuck = await rt.start(PagedStuck, id="s")
    await until_status(stuck, "stuck")
    page = await served.window()
    await page.goto(f"{served.base}/runs/PagedStuck/s")
    await expect(page.locator("#status .status")).to_have_text("stuck")
    await expect(page.locator("#facts .error")).to_contain_text("ForeignAwait")
    await check_page(page)
    await page.goto(f"{served.base}/history/PagedStuck/s")
    await expect(page.locator("#moment")).to_contain_text("in PagedStuck.run")
    await check_page(page)
    parent = await rt.start(PagedParent, id="p")
    await until(lambda: bool(rt.runs(PagedOrder)))
    await until_status(rt.run(PagedOrder, ("p", "PagedOrder-1")), "waiting")
    await parent.pause()
    await parent.resume()
    await page.goto(f"{served.base}/runs/PagedParent/p")
    child = page.locator(".gantt-item", has_text="PagedOrder")
    await expect(child).to_contain_text("waiting")
    await expect(page.locator(".gantt .pause").first).to_be_attached()
    await check_page(page)
    await child.locator("summary").click()
    await child.get_by_role("link", name="open the child").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("p/PagedOrder-1")
    await parent.cancel(reason="not wanted")
    with pytest.raises(RunFailed):
        await parent.result()
    await page.goto(f"{served.base}/runs/PagedParent/p")
    await expect(page.locator("#status .status")).to_have_text("cancelled")
    await expect(page.locator(".gantt-item", has_text="undo")).to_contain_text("complete")
    await expect(page.locator(".gantt-item", has_text="PagedOrder")).to_contain_text("given up")
    await expect(page.locator(".marks")).to_contain_text("cancel asked")
    await check_page(page)


async def test_a_tenants_forms_reach_its_own_alone(plain: Site) -> None:
    """Verbs, events and verbs over many find no run of anybody else, whatever a form says."""
    theirs, ours = await waiting(plain, "theirs"), await waiting(plain, "ours", tenant="acme")
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        await client.post("/ui/sign-in", data={"token": ACME.secret})
        page = (await client.get("/ui/")).text
        form = {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}
        for path in ("control/cancel/PagedOrder/theirs", "send/PagedOrder/theirs"):
            answer = await client.post(f"/ui/{path}", data={**form, "name": "go"})
            assert answer.status_code == 404, path
        asked = {**form, "verb": "cancel", "confirmed": "yes"}
        assert (await client.post("/ui/runs/bulk", data={**asked, "tenant": "x"})).status_code == 403
        assert (await client.post("/ui/runs/bulk", data=asked)).status_code == 303
        with pytest.raises(RunFailed):
            await ours.result()
        assert await theirs.status() == "waiting"
        asked = {
            **form,
            "verb": "drop",
            "confirmed": "yes",
            "kind": "message",
            "type": "Queue",
            "reason": "x",
        }
        assert (await client.post("/ui/dead-letters/deal", data=asked)).status_code == 403
        for path in (
            "queue-send/Queue/q",
            "actor-call/Counter/c",
            "store/check",
            "queue-control/pause/Queue/q",
        ):
            assert (await client.post(f"/ui/{path}", data={**form, "body": "1"})).status_code == 403, path


async def test_a_tenant_sees_its_own(served: Site) -> None:
    """For a token of a tenant no run of anybody else is on any page, and no trace of code."""
    served.expected = ("Failed to load resource",)
    await waiting(served, "theirs")
    await waiting(served, "ours", tenant="acme")
    page = await served.window(ACME)
    await expect(page.locator("#newest")).to_contain_text("ours")
    await expect(page.locator("#newest")).not_to_contain_text("theirs")
    await expect(tile(page, "Waiting")).to_have_text("1")
    await page.goto(f"{served.base}/runs")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await to_run(served, page, "theirs")
    await expect(page.locator("main")).to_contain_text("there is no run PagedOrder/theirs")
    await page.goto(f"{served.base}/runs?tenant=other")
    await expect(page.locator("main")).to_contain_text("for tenant acme alone")
    page = await served.window(VIEWER)
    await to_run(served, page, "theirs")
    await expect(page.get_by_role("heading", level=1)).to_have_text("theirs")
    await expect(page.locator(".verbs")).to_have_count(0)


async def test_the_overview_has_charts(folder: Path, browser: Browser, clock: ManualClock) -> None:
    """Points of the last hour, and in words what each chart shows."""
    async with site(folder, browser, Runtime(folder, clock=clock)) as served:
        page = await served.window()
        await expect(page.locator("#charts")).to_contain_text("A point comes each ten seconds.")
        for number in range(3):
            await failed(served, f"f-{number}")
            clock.advance(10)
        await page.reload()
        charts = page.get_by_role("img", name="Runs that ended: 0, 3 failed")
        await expect(charts).to_have_count(1)
        await expect(tile(page, "Success")).to_have_text("0 %")
        await check_page(page)
