"""Ask a running endpoint one task: a client like any other, which forces a tier by name and asks for logprobs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI

from router_models.data.prefixes import kept_logprobs
from router_models.data.starter import Task
from router_models.estimators.verifiers.checks.formats import measured_formats
from router_models.types import Completion, Outcome
from router_models.types.chat_prompts import whole_characters
from router_models.types.conditions import conditions_of
from router_models.types.drawn import COLLECTED_AT
from router_models.types.exchange import logprob_summary
from serve_graph.cli.client.api_key import api_key
from serve_graph.errors import EngineError, EngineTimeoutError
from serve_graph.protocol.responses import MALFORMED, completion_of, token_texts

RETRIES = 3
TIMEOUT_S = 300.0
"""Seconds without a byte after which a try counts as failed."""
_LOWEST_LOGPROB = -1e6
Read = TypeVar("Read")


def api_client(url: str, timeout_s: float = TIMEOUT_S, http_client: Any = None) -> AsyncOpenAI:
    """The `openai` client for the endpoint at `url`, with the key of $SERVE_GRAPH_KEY.

    Its retries are the policy: 408, 409, 429, 5xx, time-outs and broken connections are tried `RETRIES` times more,
    after growing pauses or as long as `Retry-After` says; one of over two minutes (a spent budget) is not waited out.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Ray's logging would show a line for every request
    return AsyncOpenAI(
        api_key=api_key() or "none",
        base_url=f"{url}/v1",
        timeout=timeout_s,
        max_retries=RETRIES,
        http_client=http_client,
    )


async def ask_whole(client: AsyncOpenAI, model: str, task: Task) -> tuple[Completion, dict[str, Any]]:
    """One task through one tier: its answer, and the endpoint's `serve_graph` object. Raises as `ask` does."""
    return await _asked(client, model, task, lambda completion, data: (completion, data.get("serve_graph") or {}))


async def ask(
    client: AsyncOpenAI, model: str, task: Task, *, with_bill: bool = False, signals: Sequence[str] = ()
) -> Outcome:
    """One task through one tier (or `auto`), ungraded; its latency is the answering try's alone.

    `with_bill` puts the endpoint's own `outcome` and `cost_usd` among the metadata. `signals` are asked for by the
    endpoint, once the answer is there (docs/reference/signals.md). Raises EngineError where there is
    no usable answer after the client's retries; EngineTimeoutError where nothing answered at all.
    """
    return await _asked(
        client, model, task, lambda completion, data: _outcome(task, model, completion, data, with_bill), signals
    )


async def _asked(
    client: AsyncOpenAI,
    model: str,
    task: Task,
    read: Callable[[Completion, dict[str, Any]], Read],
    signals: Sequence[str] = (),
) -> Read:
    messages: Any = task.chat
    content = b""
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=messages,
            logprobs=True,
            extra_body=task.carried | ({"serve_graph": {"signals": list(signals)}} if signals else {}),
        )
        content = raw.content
        data: dict[str, Any] = json.loads(content)
        if isinstance(data, dict) and data.get("error"):
            raise EngineError(f"{model} answered task {task.id} with an error: {str(data['error'])[:300]}")
        return read(completion_of(data, raw.elapsed.total_seconds()), data)
    except APIStatusError as error:
        said = error.response.text[:300]
        raise EngineError(f"{model} answered {error.status_code} to task {task.id}: {said}") from error
    except APIConnectionError as error:  # a time-out is one
        raise EngineTimeoutError(f"{model} gave task {task.id} no answer: {error!r}") from error
    except (APIError, RecursionError, *MALFORMED) as error:
        reply = f" in the reply {content[:60]!r}" if content else ""
        raise EngineError(f"{model} gave task {task.id} no answer: {error!r:.300}{reply}") from error


def _outcome(task: Task, model: str, completion: Completion, data: dict[str, Any], with_bill: bool) -> Outcome:
    if not all(_LOWEST_LOGPROB <= value <= -_LOWEST_LOGPROB for value in completion.token_logprobs):
        raise ValueError("a token's logprob is infinite")
    facts = data.get("serve_graph") or {}
    asked = {str(name): float(value) for name, value in (facts.get("signals") or {}).items()}
    conditions = {name: value for name, value in conditions_of(task.query).columns().items() if value}
    metadata = {"family": task.family, "difficulty": str(task.difficulty), "language": task.language, **conditions}
    metadata[COLLECTED_AT] = datetime.now(UTC).isoformat(timespec="seconds")
    if with_bill:
        metadata |= {"outcome": str(facts.get("outcome")), "cost_usd": str(facts.get("cost_usd") or "nan")}
    return Outcome(
        prompt_id=task.prompt_id,
        prompt=task.prompt,
        tier=str(facts.get("tier") or model),
        answer=whole_characters(completion.text),
        grade=0.0,
        usage=completion.usage,
        latency_s=max(0.0, completion.latency_s - float(facts.get("signals_s") or 0.0)),
        finish_reason=whole_characters(completion.finish_reason),
        logprobs=logprob_summary(completion.token_logprobs) | measured_formats(task.query, completion) | asked,
        metadata=metadata,
        token_texts=token_texts(completion.payload),
        token_logprobs=kept_logprobs(completion.token_logprobs),
    )
