"""What a generator has ready at once, read together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.protocol.async_stream import ready_together


class Source:
    """Numbers, with a pause or a fault before some of them."""

    def __init__(self, *steps: int | float | Exception) -> None:
        self.steps, self.closed = steps, False

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed = True


async def test_what_comes_at_once_is_one_list_and_what_comes_later_is_not_waited_for() -> None:
    source = Source(1, 2, 3, 0.02, 4, 0.02, 5, 6)
    assert [batch async for batch in ready_together(source.items())] == [[1, 2, 3], [4], [5, 6]]
    assert source.closed


async def test_a_fault_comes_after_all_that_came_before_it() -> None:
    source = Source(1, 2, 0.02, 3, ValueError("broken"))
    batches = ready_together(source.items())
    assert [await anext(batches) for _ in range(2)] == [[1, 2], [3]]
    with pytest.raises(ValueError, match="broken"):
        await anext(batches)
    assert source.closed


async def test_whoever_stops_reading_closes_the_source() -> None:
    source = Source(1, 60.0, 2)
    async with aclosing(ready_together(source.items())) as batches:
        assert await anext(batches) == [1]
    assert source.closed


async def test_nothing_is_no_list() -> None:
    assert [batch async for batch in ready_together(Source().items())] == []


async def test_an_echo_replica_sends_an_answer_that_takes_no_time_in_one_message_and_a_broken_one_in_order() -> None:
    price = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
    tier = EchoDeployment(EchoTierConfig.model_validate({"name": "cheap", "engine": "echo", "price": price}))

    async def sent(prompt: str) -> list[list[dict[str, object]]]:
        body = {"messages": [{"role": "user", "content": prompt}]}
        return [batch async for batch in tier.stream(body)]

    [whole] = await sent("one two three")
    assert len(whole) == 4, "the role with the first word, the others in one, the end, and usage"
    *before, [error] = await sent("[cheap:break] one two")
    assert [len(batch) for batch in before] == [1]
    assert error == {"error": {"message": "the echo engine 'cheap' was asked to break its stream", "code": 500}}
    assert tier.running == 0
