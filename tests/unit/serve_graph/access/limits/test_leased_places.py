"""Places for requests at once that several replicas keep together."""

import asyncio
import contextlib

from starlette.types import Message, Receive, Scope, Send

from serve_graph.access.auth import AuthMiddleware
from serve_graph.access.keys import Keyring, key_hash
from serve_graph.access.limits.limit_pool import UNIT
from serve_graph.errors import RateLimitedError
from tests.fixtures.made_up_time import run
from tests.unit.serve_graph.access.limits.made_up_replicas import Replicas, key_of


def test_places_are_those_of_all_replicas_and_go_where_they_are_needed() -> None:
    async def story() -> None:
        replicas, key = Replicas(3), key_of(concurrency=2)

        async def enters(n: int) -> bool:
            for _ in range(3):
                try:
                    replicas.accounts[n].enter(key)
                    return True
                except RateLimitedError:
                    if not await replicas.accounts[n].renewed():
                        return False
            return False

        assert [await enters(n) for n in (0, 1, 2)] == [True, True, False]
        for turn in range(30):
            replicas.accounts[turn % 2].leave(key)
            assert await enters(turn % 2)
        for turn in range(12):  # one caller, whose requests come to another replica each time
            replicas.accounts[(turn + 1) % 2 if turn < 1 else (turn + 2) % 3].leave(key)
            assert await enters(turn % 3), f"request {turn}"
        await replicas.stop()

    run(story())


def test_a_request_that_waits_for_a_place_counts_once() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(requests_per_min=60, concurrency=2)
        keyring = Keyring([key.model_copy(update={"sha256": key_hash("secret")})])

        async def answers(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0)

        door = AuthMiddleware(answers, keyring, replicas.accounts[0])
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "client": ("127.0.0.1", 1),
            "headers": [(b"authorization", b"Bearer secret")],
        }  # fmt: skip
        await door(scope, receive_nothing, send_nothing)
        await replicas.stop()
        assert [told for _, told, _ in replicas.store.leases["requests a"].values()] == [UNIT]

    run(story())


async def receive_nothing() -> Message:
    return {"type": "http.disconnect"}


async def send_nothing(message: Message) -> None:
    raise AssertionError(f"it was refused: {message}")


def test_a_key_whose_places_are_taken_for_long_asks_the_store_less_and_less_often() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(concurrency=1)
        replicas.accounts[0].enter(key) if await replicas.accounts[0].renewed() else None
        for _ in range(3):
            with contextlib.suppress(RateLimitedError):
                replicas.accounts[0].enter(key)
                break
            await replicas.accounts[0].renewed()
        calls = replicas.store.calls
        for _ in range(500):
            with contextlib.suppress(RateLimitedError):
                replicas.accounts[1].enter(key)
                raise AssertionError("the place was taken")
            await replicas.accounts[1].renewed()
            await asyncio.sleep(0.02)
        assert replicas.store.calls - calls < 10 * 5
        await replicas.stop()

    run(story())
