"""Long work beside the event loop: one piece a key at a time, keys in turn, a rest after each."""

import asyncio
import threading
import time

import pytest

from serve_graph.access.turns import (
    LONG_S,
    LONG_S_PER_MB,
    LONGEST_TURN_REST_S,
    LONGEST_WAIT_S,
    REST,
    REST_AFTER_LONG,
    Turns,
)
from serve_graph.errors import RateLimitedError


async def test_a_key_with_much_to_do_does_not_keep_another_from_its_turn() -> None:
    turns, begun, free = Turns(), list[str](), threading.Event()

    def work(name: str) -> None:
        begun.append(name)
        free.wait(20)

    many = [asyncio.ensure_future(turns.run("many", work, "many")) for _ in range(5)]
    await asyncio.sleep(0)
    one = asyncio.ensure_future(turns.run("one", work, "one"))
    for _ in range(1000):
        if len(begun) == 2:
            break
        await asyncio.sleep(0.01)
    assert sorted(begun) == ["many", "one"]
    free.set()
    await asyncio.gather(one, *many)
    assert begun.count("many") == 5


@pytest.fixture
def clocked() -> tuple[Turns, list[float], list[float]]:
    """Turns, what their clock says, and what the work's says."""
    now, worked = [0.0], [0.0]
    return Turns(lambda: now[0], lambda: worked[0]), now, worked


@pytest.mark.parametrize(
    ("took_s", "rest_s"),
    [(0.01, 0.01 * REST), (LONG_S, LONG_S * REST_AFTER_LONG), (1.0, LONGEST_TURN_REST_S)],
    ids=["short", "long", "very long"],
)
async def test_a_key_rests_by_how_long_its_work_took(
    clocked: tuple[Turns, list[float], list[float]], took_s: float, rest_s: float
) -> None:
    turns, now, worked = clocked
    await turns.run("a", lambda: worked.__setitem__(0, took_s))
    assert turns.resting_s("a") == pytest.approx(rest_s)
    assert turns.resting_s("b") == 0.0
    now[0] = rest_s
    assert turns.resting_s("a") == 0.0


@pytest.mark.parametrize("megabytes", [0, 12, 30])
async def test_of_a_large_body_more_time_is_not_long_and_without_bound_it_is(
    clocked: tuple[Turns, list[float], list[float]], megabytes: int
) -> None:
    turns, _, worked = clocked

    async def rest_after(key: str, took_s: float) -> float:
        worked[0] = 0.0
        await turns.run_on(key, megabytes * 1_000_000, lambda: worked.__setitem__(0, took_s))
        return turns.resting_s(key)

    long_s = LONG_S + LONG_S_PER_MB * megabytes
    assert await rest_after("a", 0.99 * long_s) == pytest.approx(0.99 * long_s * REST)
    assert await rest_after("b", 1.01 * long_s) == pytest.approx(
        min(LONGEST_TURN_REST_S, 1.01 * long_s * REST_AFTER_LONG)
    )


async def test_a_key_waits_for_a_short_rest_and_is_told_of_a_long_one() -> None:
    turns = Turns(work_clock=iter((0.0, 0.04, 0.0, 1.0, 0.0, 0.0)).__next__)
    began = time.monotonic()
    await turns.run("a", int)
    await turns.run("a", int)
    assert time.monotonic() - began >= 0.04 * REST
    with pytest.raises(RateLimitedError, match="took long to read") as told:
        await turns.run("a", int)
    assert LONGEST_WAIT_S < told.value.retry_after_s <= LONGEST_TURN_REST_S
    await turns.run("b", int)


async def test_callers_without_keys_have_no_rest() -> None:
    turns = Turns(work_clock=iter((0.0, 100.0)).__next__)
    await turns.run(None, int)
    assert turns.resting_s(None) == 0.0


async def test_what_the_work_raises_is_raised() -> None:
    turns = Turns()
    for _ in range(2):
        try:
            await turns.run("a", int, "x")
        except ValueError:
            continue
        raise AssertionError
