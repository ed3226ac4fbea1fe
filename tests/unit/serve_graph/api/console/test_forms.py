"""Sign-in forms whose bodies do not come: nobody's key, all places."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from serve_graph.access.console.open_forms import MOST_AT_ONCE, OpenForms
from tests.fixtures.made_up_time import settled
from tests.unit.serve_graph.api.console.conftest import ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def never() -> AsyncIterator[bytes]:
    yield b"key="
    await asyncio.Event().wait()


async def slow_form(browser: httpx.AsyncClient) -> int:
    return (await browser.post("/console/sign-in", content=never(), headers=FORM)).status_code


async def test_slow_forms_take_few_places_and_keep_nobody_from_signing_in(console: Consoles) -> None:
    made = await console()
    async with made.browser() as browser:
        slow = [asyncio.create_task(slow_form(browser)) for _ in range(3 * MOST_AT_ONCE)]
        done, awaited = set[asyncio.Task[int]](), set(slow)
        while len(awaited) > MOST_AT_ONCE:
            more, awaited = await asyncio.wait(awaited, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            assert more, "more are awaited than may be"
            done |= more
        assert {task.result() for task in done} == {429}
        assert (await made.sign_in(browser)).status_code == 303
        await settled()
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_a_form_that_does_not_arrive_in_time_is_a_408(console: Consoles) -> None:
    made = await console(open_forms=OpenForms(within_s=0.02))
    async with made.browser() as browser:
        assert await slow_form(browser) == 408
        assert (await made.sign_in(browser)).status_code == 303
