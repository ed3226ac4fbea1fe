"""Whether a prompt fits a tier's context: an estimate on the high side, before any engine has counted. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from router_models.types import Decision, Query
from serve_graph.engines.prompt_room import BYTES_PER_TOKEN, TOKENS_PER_MESSAGE
from serve_graph.gateway.capabilities import kind_of
from serve_graph.gateway.rules import raised, without_links
from serve_graph.protocol.fields import WITHHELD

IMAGE_TOKENS = 1_600
"""What one image is taken for: large ones are scaled down to about that by the models that say so."""
ATTACHMENT_TOKENS = 4_000
"""What one part of audio, video, a file or an unknown kind is taken for: minutes of speech, a few pages."""
NOT_PROMPT = WITHHELD["vllm"] | {"messages", "logit_bias", "prediction", "stream_options"}


@dataclass(frozen=True, slots=True)
class Room:
    """A tier's context, None = no limit is known, and the answer tokens it leaves where a request does not say."""

    context_tokens: int | None
    default_max_tokens: int


def crowded(query: Query, longest_bytes: int, rooms: Mapping[str, Room], tiers: Sequence[str]) -> str | None:
    """Why some certified prompts, the longest of `longest_bytes`, would not fit these tiers if asked as this one is.

    None where all of them would: then the rule about contexts takes none of them out. What a request adds is all but
    its text (a system prompt, earlier turns, tools), and the answer's length where it asks for more.
    """
    beside = max(prompt_tokens(query) - len(query.text.encode("utf-8", "replace")) / BYTES_PER_TOKEN, 0.0)
    asked = max(int(query.parameters.get(name) or 0) for name in ("max_tokens", "max_completion_tokens"))
    for tier in tiers:
        limit, answer = rooms[tier].context_tokens, asked or rooms[tier].default_max_tokens
        if limit is not None and longest_bytes / BYTES_PER_TOKEN + beside + answer > limit:
            return f"{answer} answer tokens leave {tier}'s context of {limit} less room than certified prompts took"
    return None


def fit_context(decision: Decision, query: Query, rooms: Mapping[str, Room], ladder: Sequence[str]) -> Decision:
    """Move a prompt that may not fit the chosen tier up to the first that it fits, else to the largest from there on.

    Of tiers that are equally large the dearer one. The engine has the last word: it counts, and refuses what does not
    fit.
    """
    tokens = prompt_tokens(query)
    asked = [query.parameters.get(name) or 0 for name in ("max_tokens", "max_completion_tokens")]

    def needs(tier: str) -> int:
        return tokens + int(max(asked) or rooms[tier].default_max_tokens)

    def fits(tier: str) -> bool:
        limit = rooms[tier].context_tokens
        return limit is None or needs(tier) <= limit

    if fits(decision.tier):
        return without_links(decision, fits) if decision.then else decision
    above = ladder[ladder.index(decision.tier) :]
    largest = max(above, key=lambda tier: (rooms[tier].context_tokens or math.inf, above.index(tier)))
    tier = next(filter(fits, above), largest)
    limit = rooms[decision.tier].context_tokens
    why = f"about {tokens} prompt tokens may not fit {decision.tier}'s {limit}"
    if not fits(tier):
        why += ", nor any dearer tier's"
    moved = raised(decision, tier, why, ladder)
    return replace(decision, reason=f"{decision.reason}; {why}") if moved is decision else moved


def prompt_tokens(query: Query) -> int:
    """How many tokens the whole conversation takes at most, all but surely. An estimate: nobody is refused by it.

    Everything counts that a chat template may show the model: texts, names, tool calls with their arguments, tool
    results, and of the parameters all that are more than a number: tools, schemas. An image is taken for
    IMAGE_TOKENS, any other part that is no text for ATTACHMENT_TOKENS, however large its data.
    """
    messages = query.parameters.get("messages")
    if messages is None:
        size, extra = sum(_bytes(message.content) for message in query.messages), 0
    else:
        sizes = [_message_size(message) for message in messages]
        size, extra = sum(size for size, _ in sizes), sum(extra for _, extra in sizes)
    size += sum(_size(value) for name, value in query.parameters.items() if name not in NOT_PROMPT)
    turns = len(query.messages if messages is None else messages)
    return math.ceil(size / BYTES_PER_TOKEN) + extra + TOKENS_PER_MESSAGE * turns


def _message_size(message: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of text in a message, and the tokens that its other parts are taken for."""
    size = sum(_size(value) for name, value in message.items() if name not in ("role", "content"))
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return size + _size(content), 0
    part_sizes = [_part_size(part) for part in content]
    return size + sum(size for size, _ in part_sizes), sum(extra for _, extra in part_sizes)


def _part_size(part: Any) -> tuple[int, int]:
    kind = kind_of(part) if isinstance(part, Mapping) else None
    if kind is not None:
        return _size(part.get("text")), IMAGE_TOKENS if kind == "image" else ATTACHMENT_TOKENS
    inner = part.get("content", part.get("output")) if isinstance(part, Mapping) else None
    if not isinstance(inner, list | tuple):
        return _size(part), 0
    found = [_part_size(each) for each in inner]  # a result may hold parts of its own
    return sum(size for size, _ in found), sum(extra for _, extra in found)


def _size(value: Any) -> int:
    """The bytes of a text, or of a structure as JSON; numbers and switches are settings, not prompt."""
    if isinstance(value, str):
        return _bytes(value)
    if isinstance(value, Mapping | list | tuple):
        return _bytes(json.dumps(value, ensure_ascii=False, default=str))
    return 0


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
