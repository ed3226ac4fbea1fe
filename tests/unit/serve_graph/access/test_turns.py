"""Long work beside the event loop: one piece a key at a time, keys in turn, a rest after each."""

import asyncio
import threading
import time

from serve_graph.access.turns import LONGEST_TURN_REST_S, REST, Turns


async def test_a_key_with_much_to_do_does_not_keep_another_from_its_turn() -> None:
    turns, order, free = Turns(), list[str](), threading.Event()

    def work(name: str) -> None:
        free.wait(20)
        order.append(name)

    many = [asyncio.ensure_future(turns.run("many", work, f"many {i}")) for i in range(5)]
    await asyncio.sleep(0)
    one = asyncio.ensure_future(turns.run("one", work, "one"))
    await asyncio.sleep(0.05)
    assert order == []
    free.set()
    await one
    assert "many 1" not in order
    for each in many:
        each.cancel()
    await asyncio.gather(*many, return_exceptions=True)


async def test_a_key_rests_as_often_as_long_as_it_worked() -> None:
    turns = Turns()
    began = time.monotonic()
    await turns.run("a", time.sleep, 0.05)
    await turns.run("b", time.sleep, 0)
    assert time.monotonic() - began < 0.05 * (1 + REST)
    await turns.run("a", time.sleep, 0)
    assert time.monotonic() - began >= 0.05 * (1 + REST)


async def test_no_rest_is_long_and_callers_without_keys_have_none() -> None:
    now = [0.0]
    turns = Turns(lambda: now[0])
    await turns.run("a", lambda: now.__setitem__(0, 100.0))
    await turns.run(None, lambda: now.__setitem__(0, 200.0))
    assert turns.resting_s("a") == 0.0
    assert turns.resting_s(None) == 0.0
    await turns.run("a", lambda: now.__setitem__(0, 300.0))
    assert turns.resting_s("a") == LONGEST_TURN_REST_S


async def test_what_the_work_raises_is_raised() -> None:
    turns = Turns()
    for _ in range(2):
        try:
            await turns.run("a", int, "x")
        except ValueError:
            continue
        raise AssertionError
