"""The gate of a tier. Real waiting is some hundredths of a second; service times are on a clock of the tests'."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_graph.cluster.load.admission import AdmissionController
from serve_graph.errors import SaturatedError, retry_after, status_of
from tests.fixtures.made_up_time import settled


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def gate(in_flight: int = 2, queued: int = 2, clock: Callable[[], float] | None = None) -> AdmissionController:
    return AdmissionController("frontier", in_flight, queued, clock or Clock())


async def served(gate: AdmissionController, clock: Clock, seconds: float) -> None:
    """One request that takes `seconds`."""
    async with gate.place(1000.0):
        clock.now += seconds


async def passing(gate: AdmissionController, deadline_s: float) -> None:
    async with gate.place(deadline_s):
        pass


async def holding(
    gate: AdmissionController, inside: list[int], number: int, release: asyncio.Event, deadline_s: float = 99.0
) -> None:
    async with gate.place(deadline_s):
        inside.append(number)
        await release.wait()


async def started(
    gate: AdmissionController, n: int, release: asyncio.Event, inside: list[int]
) -> list[asyncio.Task[None]]:
    tasks = []
    for number in range(n):
        tasks.append(asyncio.ensure_future(holding(gate, inside, number, release)))
        await asyncio.sleep(0)
    return tasks


async def test_so_many_work_so_many_wait_and_the_rest_is_refused_at_once() -> None:
    made, release, inside = gate(), asyncio.Event(), list[int]()
    tasks = await started(made, 4, release, inside)
    assert (inside, made.counters()) == ([0, 1], {"in_flight": 2, "queued": 2, "refused": 0})
    with pytest.raises(SaturatedError, match="'frontier' is saturated: its queue is full"):
        await passing(made, 9.0)
    release.set()
    await asyncio.gather(*tasks)
    assert inside == [0, 1, 2, 3]
    assert made.counters() == {"in_flight": 0, "queued": 0, "refused": 1}


async def test_refusal_says_when_a_place_should_be_free() -> None:
    clock = Clock()
    made, release = gate(2, 1, clock), asyncio.Event()
    await served(made, clock, 8.0)
    tasks = await started(made, 3, release, [])
    with pytest.raises(SaturatedError) as caught:
        await passing(made, 100.0)
    assert caught.value.retry_after_s == pytest.approx(8.0)  # the second in the queue of two places of 8 s
    assert (status_of(caught.value)[0], retry_after(caught.value)) == (429, "8")
    release.set()
    await asyncio.gather(*tasks)


async def test_request_that_would_wait_past_its_deadline_is_refused_at_once() -> None:
    clock = Clock()
    made, release = gate(1, 9, clock), asyncio.Event()
    await served(made, clock, 10.0)
    tasks = await started(made, 1, release, [])
    with pytest.raises(SaturatedError, match="longer than 15 s"):
        await passing(made, 15.0)
    patient = asyncio.ensure_future(holding(made, [], 1, release, 25.0))
    await asyncio.sleep(0)
    assert len(made.queue) == 1
    release.set()
    await asyncio.gather(*tasks, patient)


async def test_a_free_place_is_given_however_slow_the_tier_was() -> None:
    clock = Clock()
    made = gate(1, 1, clock)
    await served(made, clock, 500.0)
    async with made.place(1.0) as left_s:
        assert left_s == 1.0


async def test_deadline_that_passes_in_the_queue_refuses_and_leaves_no_ghost() -> None:
    made, release = gate(1, 5), asyncio.Event()
    tasks = await started(made, 1, release, [])
    with pytest.raises(SaturatedError, match=r"no place within 0\.02 s"):
        await passing(made, 0.02)
    assert made.counters() == {"in_flight": 1, "queued": 0, "refused": 1}
    release.set()
    await asyncio.gather(*tasks)
    assert made.in_flight == 0


async def test_what_was_waited_is_off_the_deadline() -> None:
    clock = Clock()
    made, release = gate(1, 1, clock), asyncio.Event()
    tasks = await started(made, 1, release, [])
    left: list[float] = []

    async def waiting() -> None:
        async with made.place(10.0) as left_s:
            left.append(left_s)

    second = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    clock.now += 4.0
    release.set()
    await asyncio.gather(*tasks, second)
    assert left == [6.0]


async def test_caller_who_leaves_the_queue_or_the_tier_frees_the_place() -> None:
    made, release = gate(1, 5), asyncio.Event()
    tasks = await started(made, 3, release, [])
    tasks[1].cancel()
    tasks[0].cancel()
    await settled()
    assert made.counters() == {"in_flight": 1, "queued": 0, "refused": 0}
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert made.in_flight == 0


async def test_place_given_to_one_who_leaves_in_the_same_moment_is_not_lost() -> None:
    made = gate(1, 5)
    async with made.place(9.0):
        second = asyncio.ensure_future(passing(made, 9.0))
        await asyncio.sleep(0)
    assert made.in_flight == 1  # the second's already, and it has not run yet
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert second.cancelled()
    assert made.in_flight == 0


async def test_failed_requests_say_nothing_about_service_times() -> None:
    clock = Clock()
    made = gate(1, 1, clock)
    await served(made, clock, 2.0)

    async def failing() -> None:
        async with made.place(9.0):
            clock.now += 100.0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await failing()
    assert made.service_s == 2.0
    assert made.in_flight == 0


@settings(max_examples=100, deadline=None)
@given(
    in_flight=st.integers(1, 3),
    queued=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from(["come", "finish", "fail", "leave"]), st.integers(0, 9)), max_size=40),
)
def test_bounds_hold_and_no_place_is_ever_lost(in_flight: int, queued: int, steps: list[tuple[str, int]]) -> None:
    asyncio.run(_followed(gate(in_flight, queued), steps))


async def _followed(made: AdmissionController, steps: list[tuple[str, int]]) -> None:
    """Requests come, finish, fail and go away in any order, several of them between two turns of the loop."""
    ends: dict[asyncio.Task[None], asyncio.Future[None]] = {}

    async def request(end: asyncio.Future[None]) -> None:
        async with made.place(99.0):
            assert made.in_flight <= made.max_in_flight
            await end

    for what, which in steps:
        alive = [task for task in ends if not task.done()]
        if what == "come":
            end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ends[asyncio.ensure_future(request(end))] = end
        elif alive:
            task = alive[which % len(alive)]
            if what == "leave":
                task.cancel()
            elif not ends[task].done():
                ends[task].set_result(None) if what == "finish" else ends[task].set_exception(RuntimeError("failed"))
        if which % 2:
            await asyncio.sleep(0)
        assert len(made.queue) <= made.max_queued
    for end in ends.values():
        if not end.done():
            end.set_result(None)
    results = await asyncio.gather(*ends, return_exceptions=True)
    for end in ends.values():
        end.exception() if end.done() and not end.cancelled() else None
    assert all(isinstance(r, SaturatedError | RuntimeError | asyncio.CancelledError | None) for r in results)
    assert not any(isinstance(r, RuntimeError) and str(r) != "failed" for r in results)
    assert (made.in_flight, len(made.queue)) == (0, 0)


@pytest.mark.parametrize(("places", "spare"), [(1, 1), (2, 1), (3, 2), (64, 32)])
async def test_work_that_can_be_left_is_once_half_of_the_places_are_taken_or_anybody_waits(
    places: int, spare: int
) -> None:
    tier, release = gate(in_flight=places), asyncio.Event()
    busy, tasks = [tier.is_busy], []
    for _ in range(places):
        tasks += await started(tier, 1, release, [])
        busy.append(tier.is_busy)
    assert tier.spare == spare
    assert busy == [taken >= spare for taken in range(places + 1)]
    release.set()
    await asyncio.gather(*tasks)
    assert not tier.is_busy
