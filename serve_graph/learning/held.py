"""How much of requests and answers waits in one process for what is done with them later, and room for no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router_models.types import Completion, Query

HELD_CHARS = 32 * 1024 * 1024
"""Characters of requests and answers, pictures, tools and formats included, that wait in one queue at most."""
MOST_HELD_VALUES = 20_000
"""Values of a request that are counted: one of more has no room, as counting would keep others waiting."""
PER_VALUE = 32
"""Characters that a value counts for beside its text; about what it takes."""
PER_TOKEN = 256
"""Characters that the log probabilities of a token count for, which are not looked through."""


class HeldRoom:
    """Room for `HELD_CHARS` characters of what waits."""

    def __init__(self, most: int = HELD_CHARS) -> None:
        self.most = most
        self.taken = 0

    def take(self, chars: int, needs: int | None = None) -> bool:
        """Take room where there is any, and tell whether there was; `needs`: room for so many is enough."""
        if self.taken + (chars if needs is None else needs) > self.most:
            return False
        self.taken += chars
        return True

    def give_back(self, chars: int) -> None:
        """Give back what was taken."""
        self.taken -= chars


def held_chars(query: Query, *answers: Completion | None) -> int:
    """Return about how many characters a request and its answers hold, whatever they stand in."""
    sent = query.parameters.get("messages") or ()
    counted = {id(turn.get("content")) for turn in sent if isinstance(turn, Mapping)}
    texts = [message.content for message in query.messages if id(message.content) not in counted]
    each = {id(answer): answer for answer in answers if answer is not None}
    return _chars([query.parameters, query.metadata, texts]) + sum(map(_answer_chars, each.values()))


def _answer_chars(answer: Completion) -> int:
    held = len(answer.text) + PER_VALUE * len(answer.token_logprobs)
    choices = answer.payload.get("choices")
    for choice in choices if isinstance(choices, list | tuple) else ():
        if isinstance(choice, Mapping):
            held += _chars([value for name, value in choice.items() if name != "logprobs"])
            held += PER_TOKEN * _tokens(choice.get("logprobs"))
    return held


def _tokens(logprobs: Any) -> int:
    lists = logprobs.values() if isinstance(logprobs, Mapping) else ()
    return max((len(one) for one in lists if isinstance(one, list | tuple)), default=0)


def _chars(level: list[Any]) -> int:
    held = found = 0
    while level:
        inner: list[Any] = []
        held += PER_VALUE * len(level)
        for one in level:
            if isinstance(one, str | bytes):
                held += len(one)
            elif isinstance(one, list | tuple):
                found += len(one)
                if found > MOST_HELD_VALUES:
                    return HELD_CHARS + 1
                inner += one
            elif isinstance(one, int):
                held += one.bit_length() // 3
            elif isinstance(one, dict | Mapping):
                found += 2 * len(one)
                if found > MOST_HELD_VALUES:
                    return HELD_CHARS + 1
                inner += one
                inner += one.values()
        level = inner
    return held
