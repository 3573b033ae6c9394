"""service/pages: who may see pages, and whose forms are ours."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from playwright.async_api import expect
from starlette.applications import Starlette
from starlette.routing import Mount

from holdfast import Runtime
from holdfast.service import http_app
from tests.service.pages.support import ACME, OPERATOR, VIEWER, Site, check_page
from tests.service.support import serving


async def test_without_a_session_every_page_leads_to_the_sign_in(served: Site) -> None:
    """Who isn't signed in is asked for a token, and gets to where they wanted."""
    page = await served.window(None)
    await page.goto(f"{served.base}/runs?status=failed")
    await expect(page).to_have_url(f"{served.base}/sign-in?to=%2Fui%2Fruns%3Fstatus%3Dfailed")
    await check_page(page)
    await page.keyboard.type(OPERATOR.secret)  # the field has the focus
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{served.base}/runs?status=failed")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


async def test_another_token_is_refused_in_words(served: Site) -> None:
    """A token that isn't known leads back to the form, which says so."""
    served.expected = ("Failed to load resource",)  # how Chromium tells of a 403
    page = await served.window(None)
    await page.goto(f"{served.base}/sign-in")
    await page.fill("#token", "not-one-of-the-tokens")
    await page.click("button.primary")
    await expect(page.get_by_role("alert")).to_have_text("This token is not known here.")
    await check_page(page)


async def test_the_cookie_holds_no_token_and_no_script_reads_it(served: Site) -> None:
    """HttpOnly, SameSite=Strict, for the pages alone, and nothing of the token in it."""
    page = await served.window()
    [cookie] = await page.context.cookies()
    assert cookie.get("httpOnly") is True
    assert cookie.get("sameSite") == "Strict"
    assert cookie.get("path") == "/ui/"
    assert OPERATOR.secret not in str(cookie)
    assert await page.evaluate("document.cookie") == ""


async def test_who_signs_out_is_out(served: Site) -> None:
    """After signing out the cookie is worth nothing, also where somebody kept it."""
    page = await served.window()
    [cookie] = await page.context.cookies()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(f"{served.base}/sign-in")
    async with httpx2.AsyncClient(
        base_url=f"http://{served.host}", cookies={cookie.get("name", ""): cookie.get("value", "")}
    ) as client:
        assert (await client.get("/ui/runs")).status_code == 303


async def signed_in(client: httpx2.AsyncClient, secret: str) -> str:
    """Sign a client in; returns the token of its forms."""
    answer = await client.post("/ui/sign-in", data={"token": secret})
    assert answer.status_code == 303
    page = (await client.get("/ui/")).text
    return page.partition('name="form_token" value="')[2].partition('"')[0]


async def test_a_form_without_its_token_is_refused(plain: Site) -> None:
    """The cookie alone does nothing: a form needs the session's token, and a page of this host."""
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        form_token = await signed_in(client, OPERATOR.secret)
        for form, headers in (
            ({}, {}),
            ({"form_token": "x" * 32}, {}),
            ({"form_token": form_token}, {"Origin": "http://evil.example"}),
            ({"form_token": form_token}, {"Origin": "null"}),
        ):
            asked = {"verb": "purge", "confirmed": "yes", **form}
            answer = await client.post("/ui/runs/bulk", data=asked, headers=headers)
            assert answer.status_code == 403, (form, headers)
        asked = {"verb": "purge", "form_token": form_token}
        assert (await client.post("/ui/runs/bulk", data=asked)).status_code == 200
        assert (await client.post("/ui/runs/bulk", json=asked)).status_code == 415


async def test_a_viewer_has_no_forms_and_may_send_none(served: Site) -> None:
    """What a viewer may not do isn't offered, and is refused when it is asked for all the same."""
    page = await served.window(VIEWER)
    await page.goto(f"{served.base}/runs")
    assert await page.locator(".bulk").count() == 0
    async with httpx2.AsyncClient(base_url=f"http://{served.host}") as client:
        form_token = await signed_in(client, VIEWER.secret)
        answer = await client.post("/ui/runs/bulk", data={"verb": "purge", "form_token": form_token})
        assert answer.status_code == 403
        assert "this needs the role operator" in answer.text


async def test_pages_tell_browsers_what_they_may(plain: Site) -> None:
    """Every page, also a refusal, has the headers that keep it to this host and out of frames."""
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        await signed_in(client, ACME.secret)
        for path in ("/ui/", "/ui/runs", "/ui/nothing", "/ui/sign-in"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy, path
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"


async def test_who_may_show_pages_in_a_frame_is_an_option(folder: Path) -> None:
    """`frame_ancestors` names the origins; without `pages=True` there are no pages at all."""
    async with Runtime(folder) as rt:
        framed = http_app(rt, tokens=[OPERATOR], pages=True, frame_ancestors=["https://ops.example.org"])
        async with serving(framed) as host, httpx2.AsyncClient(base_url=f"http://{host}") as client:
            headers = (await client.get("/ui/sign-in")).headers
            assert "frame-ancestors https://ops.example.org" in headers["content-security-policy"]
            assert "x-frame-options" not in headers
        bare = http_app(rt, tokens=[OPERATOR])
        async with serving(bare) as host, httpx2.AsyncClient(base_url=f"http://{host}") as client:
            assert (await client.get("/ui/sign-in")).status_code == 404


async def test_pages_below_a_prefix_lead_to_each_other(folder: Path) -> None:
    """Mounted in another app, addresses and the cookie's path begin with where that is."""
    async with Runtime(folder) as rt:
        app = Starlette(routes=[Mount("/_holdfast", http_app(rt, tokens=[OPERATOR], pages=True))])
        async with serving(app) as host, httpx2.AsyncClient(base_url=f"http://{host}") as client:
            answer = await client.get("/_holdfast/ui/runs")
            assert answer.headers["location"] == "/_holdfast/ui/sign-in?to=%2F_holdfast%2Fui%2Fruns"
            answer = await client.post("/_holdfast/ui/sign-in", data={"token": OPERATOR.secret})
            assert answer.headers["location"] == "/_holdfast/ui/"
            assert "Path=/_holdfast/ui/" in answer.headers["set-cookie"]
            page = (await client.get("/_holdfast/ui/runs")).text
            assert 'href="/_holdfast/ui/static/pages.css"' in page
            assert '"/ui/' not in page


async def test_streams_are_bounded(plain: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many pages are live at once; the next one is told so."""
    monkeypatch.setattr("holdfast.service.pages.changes.MAX_STREAMS", 1)
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        await signed_in(client, OPERATOR.secret)
        async with client.stream("GET", "/ui/changes") as first:
            assert first.headers["content-type"].startswith("text/event-stream")
            texts = first.aiter_text()  # which ends the stream when it is given up
            assert await anext(texts) == "retry: 1000\n\n"
            assert (await client.get("/ui/changes")).status_code == 503


async def test_the_address_behind_the_sign_in_is_one_of_these_pages(plain: Site) -> None:
    """No address of another host is led to, however it is written."""
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        for to in (
            "//evil.example",
            "https://evil.example/ui/",
            "/ui/\\evil",
            "/\\evil.example",
            "/other",
            "/ui/\n//x",
        ):
            answer = await client.post("/ui/sign-in", data={"token": OPERATOR.secret, "to": to})
            assert answer.headers["location"] == "/ui/", to
        answer = await client.get("/ui")
        assert answer.headers["location"] == "/ui/"
