"""What is kept of a request beside its text where prompts are kept: enough to ask it again, redacted alike.

And of answers that were made for it and not shown, where answers are kept: what outcomes are made of later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from router_models.types import Completion, Query
from router_models.types.chat_prompts import TEXT_PARTS, routed_text
from router_models.types.conditions import NO_DECODING
from router_models.types.exchange import logprob_summary

REPLAYED = frozenset({"tools", "tool_choice", "parallel_tool_calls", "response_format", "max_tokens"})
"""Parameters that are kept beside the sampling settings."""
_FIXED = frozenset({"role", "type"})
"""Keys whose values are words of the protocol, not the caller's text."""
BESIDE = "beside"
"""Under which key `beside_answer` stands in lists: of a record's evidence, of a label's or a comparison's detail."""
NOT_TEXT = "content that is no text"
REDACTED_OTHERWISE = "redaction changed more than the text of messages"


def kept_request(query: Query, kept_prompt: str, keep: Callable[[str], str | None]) -> dict[str, Any]:
    """Return `messages` and `parameters` to replay a request with, or `not_kept` and why.

    The texts of messages are redacted one by one. Where that gives another text than redacting them together
    (`kept_prompt`), or a rule matches in anything else that the request carries, its text is all that is kept.
    """
    sent = query.parameters.get("messages") or [{"role": m.role, "content": m.content} for m in query.messages]
    parameters = {
        name: value
        for name, value in query.parameters.items()
        if value is not None and (name in REPLAYED or name not in NO_DECODING)
    }
    contents = [message.get("content") for message in sent]
    if not all(content is None or isinstance(content, str) or _is_text(content) for content in contents):
        return {"not_kept": NOT_TEXT}
    messages = [
        {**message, "content": _redacted(content, keep)} for message, content in zip(sent, contents, strict=True)
    ]
    beside = [{k: v for k, v in message.items() if k != "content"} for message in sent]
    if routed_text(messages) != kept_prompt or not _passes([beside, parameters], keep):
        return {"not_kept": REDACTED_OTHERWISE}
    return {"messages": messages, "parameters": parameters}


def beside_answer(tier: str, answer: Completion, keep: Callable[[str], str | None]) -> dict[str, Any]:
    """Return a tier's answer that was not shown, as JSON-able data: its text as `keep` leaves it, and its counts."""
    usage = answer.usage
    return {
        "tier": tier,
        "answer": keep(answer.text),
        "finish_reason": answer.finish_reason,
        "usage": [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens],
        "latency_s": answer.latency_s,
        "signals": logprob_summary(answer.token_logprobs) if answer.token_logprobs else {},
    }


def _is_text(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, Mapping) and part.get("type", "text") in TEXT_PARTS for part in content
    )


def _redacted(content: Any, keep: Callable[[str], str | None]) -> Any:
    if content is None or isinstance(content, str):
        return keep(content) if content else content
    return [{**part, "text": keep(part["text"])} if part.get("text") else dict(part) for part in content]


def _passes(value: Any, keep: Callable[[str], str | None]) -> bool:
    """Whether redaction would change no text within a value."""
    if isinstance(value, Mapping):
        return all(keep(str(k)) == str(k) and (k in _FIXED or _passes(v, keep)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_passes(one, keep) for one in value)
    return not isinstance(value, str) or not value or keep(value) == value
