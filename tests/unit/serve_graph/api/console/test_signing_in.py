import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from serve_graph.access.console.sessions import PROOF_CHARS
from serve_graph.config.http import CorsConfig
from serve_graph.records.audit import AuditFilter
from serve_graph.records.audit_log import AuditLog
from tests.unit.serve_graph.api.console.conftest import ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]


async def test_a_browser_is_led_to_the_form_and_from_there_to_the_page_it_wanted(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        led = await browser.get("/console/nowhere?x=1")
        assert (led.status_code, led.headers["location"]) == (303, "/console/sign-in?next=/console/nowhere")
        assert "Sign in" in (await browser.get(led.headers["location"])).text
        signed_in = await made.sign_in(browser, next="/console/nowhere")
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/console/nowhere")
        assert (await browser.get("/console")).status_code == 200


async def test_programs_are_told_401_and_may_show_their_key_as_ever(console: Consoles) -> None:
    async with (await console()).browser() as browser:
        refused = await browser.get("/console", headers={"accept": "application/json"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
        assert (await browser.get("/console", headers={"x-api-key": "boss"})).status_code == 200
        assert (await browser.get("/console", headers={"x-api-key": "team"})).status_code == 403


async def test_the_cookie_holds_no_key_and_is_out_of_reach_of_scripts_and_other_sites(console: Consoles) -> None:
    made = await console()
    for host, secure in (("http://localhost:8000", False), ("http://127.0.0.1", False), ("https://llm.example", True)):
        async with made.browser(host) as browser:
            cookie = (await made.sign_in(browser)).headers["set-cookie"]
        assert ("; Secure" in cookie) is secure
        for attribute in ("HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=28800"):
            assert attribute in cookie
        prefix = "__Secure-" if secure else ""
        assert cookie.startswith(f"{prefix}{made.parts.sessions.cookie_name}=boss.")
        assert made.keyring.keys[0].sha256 not in cookie


@pytest.mark.parametrize("key", ["", "wrong", "team", "boss2", "b" * 9000])
async def test_whoever_has_no_admin_key_stays_outside_and_is_counted_as_any_wrong_key(
    console: Consoles, key: str
) -> None:
    made = await console()
    async with made.browser() as browser:
        refused = await made.sign_in(browser, key)
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers
        assert not key or key not in refused.text
    assert made.service.metrics.refused == {401: 1}


async def test_wrong_keys_without_end_wait_as_those_of_requests_do(console: Consoles) -> None:
    made = await console()
    while made.parts.refusals.delay_s("") == 0.0:
        pass
    held: list[str] = []

    class Noting(type(made.parts.refusals)):  # type: ignore[misc]
        async def hold(self, key: str) -> None:
            held.append(key)

    object.__setattr__(made.parts, "refusals", Noting())
    async with made.browser() as browser:
        await made.sign_in(browser, "wrong")
    assert held == [""]


async def test_signing_out_ends_the_session_and_not_only_the_cookie(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        await made.sign_in(browser)
        cookie = browser.cookies[made.parts.sessions.cookie_name]
        token = made.parts.sessions.form_token(cookie)
        assert (await browser.post("/console/sign-out", data={"form": "x"})).status_code == 403
        assert (await browser.get("/console")).status_code == 200
        left = await browser.post("/console/sign-out", data={"form": token})
        assert (left.status_code, "Max-Age=0" in left.headers["set-cookie"]) == (303, True)
        again = await browser.get("/console", headers={"cookie": f"{made.parts.sessions.cookie_name}={cookie}"})
        assert again.status_code == 303
    entries = await AuditLog(made.store).entries(AuditFilter(action="console"))
    assert [(one.actor, one.action) for one in entries] == [
        ("key:boss", "console.sign_out"),
        ("key:boss", "console.sign_in"),
    ]


async def test_a_form_that_no_page_of_the_session_has_sent_is_refused(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        await made.sign_in(browser)
        for token in ("", made.parts.sessions.form_token(""), made.parts.sessions.form_token("boss.1.x.y")):
            assert (await browser.post("/console/sign-out", data={"form": token})).status_code == 403
        plain = await browser.post("/console/sign-out", content=b"{}", headers={"content-type": "application/json"})
        assert plain.status_code == 400
        zipped = await browser.post("/console/sign-out", data={"form": "x"}, headers={"content-encoding": "gzip"})
        assert zipped.status_code == 400


async def test_whoever_was_sent_the_cookie_on_another_port_can_send_no_form(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        await made.sign_in(browser, proof="p" * PROOF_CHARS)
        token = re.findall(r'name="form" value="(\w+)"', (await browser.get("/console")).text)[0]
        for stolen in ({}, {"proof": ""}, {"proof": "q" * PROOF_CHARS}):
            assert (await browser.post("/console/sign-out", data={"form": token, **stolen})).status_code == 403
        left = await browser.post("/console/sign-out", data={"form": token, "proof": "p" * PROOF_CHARS})
        assert left.status_code == 303


OTHERS: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:3000"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "origin": "http://localhost:3000"},
    *(
        {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": dest}
        for site in ("cross-site", "same-site")
        for dest in ("iframe", "frame", "object", "embed", "fencedframe", "empty")
    ),
]


@pytest.mark.parametrize("keys", [True, False])
async def test_pages_of_other_origins_read_and_send_nothing_whatever_cors_permits(
    console: Consoles, keys: bool
) -> None:
    cors = CorsConfig(origins=("http://localhost:*", "https://evil.example"), credentials=True)
    made = await console(keys=keys, cors=cors)
    async with made.browser() as browser:
        if keys:
            await made.sign_in(browser)
        token = made.parts.sessions.form_token(browser.cookies.get(made.parts.sessions.cookie_name, ""))
        for headers in OTHERS:
            assert (await browser.get("/console", headers=headers)).status_code == 403, headers
            sent = await browser.post("/console/sign-out", data={"form": token}, headers=headers)
            assert sent.status_code == 403, headers
        own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
        assert (await browser.get("/console", headers=own)).status_code == 200
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        for whole in (link, link | {"sec-fetch-dest": "document"}):
            assert (await browser.get("/console", headers=whole)).status_code == 200


async def test_without_keys_this_machine_sees_it_and_nobody_else(console: Consoles) -> None:
    made = await console(keys=False)
    async with made.browser() as browser:
        assert (await browser.get("/console")).status_code == 200
        assert (await browser.get("/console", headers={"host": "page.example"})).status_code == 403
    async with made.browser(caller="203.0.113.7") as browser:
        assert (await browser.get("/console")).status_code == 403
    made.is_open = True
    for caller in ("203.0.113.7", "127.0.0.1"):
        async with made.browser(caller=caller) as browser:
            for path in ("/console", "/console/sign-in", "/console/static/console.css"):
                assert (await browser.get(path)).status_code == 403


async def test_switched_off_there_are_no_pages_and_a_cookie_opens_nothing(console: Consoles) -> None:
    made = await console(console=False)
    cookie = made.parts.sessions.begin(made.keyring.keys[0])
    async with made.browser() as browser:
        assert (
            await browser.get("/console", headers={"cookie": f"{made.parts.sessions.cookie_name}={cookie}"})
        ).status_code == 401
        assert (await browser.get("/console/sign-in")).status_code == 401
        assert (await browser.get("/console", headers={"x-api-key": "boss"})).status_code == 404


async def test_a_session_opens_the_console_and_no_other_route(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        await made.sign_in(browser)
        headers = {"cookie": f"{made.parts.sessions.cookie_name}={browser.cookies[made.parts.sessions.cookie_name]}"}
        for path in ("/metrics", "/v1/audit", "/v1/decisions/x", "/v1/models", "/consolex"):
            assert (await browser.get(path, headers=headers)).status_code == 401, path


async def test_every_page_forbids_what_it_does_not_hold_itself(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        await made.sign_in(browser)
        for path in ("/console", "/console/sign-in", "/console?window=x", "/console/static/console.css"):
            reply = await browser.get(path)
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert reply.headers["x-content-type-options"] == "nosniff"
            if "static" not in path:
                assert reply.headers["cache-control"] == "no-store"
                assert not any(
                    word in reply.text for word in ("<style", " style=", " onclick=", "http://", "https://")
                )


async def test_only_the_two_files_are_served_and_nothing_beside_them(console: Consoles) -> None:
    async with (await console()).browser() as browser:
        assert (await browser.get("/console/static/console.css")).headers["content-type"].startswith("text/css")
        for name in ("../pages.py", "..%2fpages.py", "%2e%2e/pages.py", "console.css.bak", "__init__.py"):
            assert (await browser.get(f"/console/static/{name}")).status_code in (303, 404), name


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil.example", "/\\evil", "/console\\..", "/v1/audit"])
async def test_signing_in_leads_nowhere_but_to_the_console(console: Consoles, wanted: str) -> None:
    made = await console()
    async with made.browser() as browser:
        replies: list[httpx.Response] = [await made.sign_in(browser, next=wanted)]
        replies.append(await made.sign_in(browser, next=f"/console\r\nset-cookie: {wanted}"))
    said: list[Any] = [reply.headers["location"] for reply in replies]
    assert said == ["/console", "/console"]
