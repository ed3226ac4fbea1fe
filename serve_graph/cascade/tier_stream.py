"""One tier speaking: its stream as pieces, heard and billed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from router_models.types import Action, Completion, Query
from serve_graph.cascade.calls import charge, record_attempts
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.errors import EngineError
from serve_graph.protocol.chunks import Choices, CompletionAccumulator, says_something
from serve_graph.protocol.responses import MALFORMED

TierStream = AsyncGenerator[Choices, None]
ABSTENTION = "I am not confident enough in an answer to give one."


async def stream_tier(
    context: CascadeContext, query: Query, state: RequestState, accumulator: CompletionAccumulator
) -> TierStream:
    """The trail's tier as it speaks, from its first piece that says something; `accumulator` keeps what it said.

    The bill is written when it ends, however it ends; the completion is left in the trail where it ended well.
    Raises EngineError where the tier falls silent without a finish reason. Closing it ends the engine's call.
    """
    started, tier = time.perf_counter(), state.tier
    silent: list[Choices] = []
    speaking = False
    try:
        async with aclosing(context.streams[tier].stream(query)) as chunks:
            async for chunk in chunks:
                _hear(accumulator, chunk, tier)
                record_attempts(context, tier, chunk.get("attempts", ()), state)
                if not chunk.get("choices"):
                    continue
                piece: Choices = [_complete(choice) for choice in chunk["choices"]]
                speaking = speaking or says_something(chunk)
                if not speaking:
                    silent.append(piece)
                    continue
                while silent:
                    yield silent.pop(0)
                yield piece
        if not accumulator.finished:
            raise EngineError(f"tier {tier!r} ended its stream without finishing the answer")
        state.completion = accumulator.completion(time.perf_counter() - started)
    except EngineError as error:
        record_attempts(context, tier, error.attempts, state)
        raise
    finally:
        said = accumulator.completion(time.perf_counter() - started, "stop")
        state.calls.append(charge(context, tier, said, said.latency_s, accumulator.named))


def _hear(accumulator: CompletionAccumulator, chunk: Mapping[str, Any], tier: str) -> None:
    try:
        accumulator.add(chunk)
    except MALFORMED as error:
        attempts = chunk.get("attempts", ()) if isinstance(chunk, Mapping) else ()
        raise EngineError(f"tier {tier!r} sent a piece that is none ({type(error).__name__})", attempts) from error


def _complete(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice of a chunk with all that OpenAI's have: some APIs leave out what is empty, the delta included."""
    index, delta = choice.get("index") or 0, choice.get("delta") or {}
    return {"finish_reason": None, **choice, "index": index, "delta": delta}


def as_delivered(state: RequestState, completion: Completion) -> Completion:
    """The completion as the caller may see it: an abstention says so instead of answering, and is a refusal."""
    if state.action is not Action.ABSTAINED:
        return completion
    message = {"role": "assistant", "content": ABSTENTION, "refusal": ABSTENTION}
    payload = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Completion(ABSTENTION, "stop", completion.usage, (), completion.latency_s, payload)
