"""What a family is, and the few wording tools that all families share.

A family is a module (or object) with one function, `draw`: a random generator, a difficulty and a language in,
one Draft out. It reads nothing else, so equal generators give equal drafts. It may return the same draft for
different states of the generator; `generate` drops duplicates.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from router_models.data.starter.task import Draft

T = TypeVar("T")


class Family(Protocol):
    """A source of questions of one kind."""

    def draw(self, rng: random.Random, difficulty: int, language: str) -> Draft:
        """Return one question of `difficulty` 1..5 in a `language` the family is registered for."""
        ...


def settled(options: Sequence[T], key: str) -> T:
    """Return the option that `key` always selects.

    Used for wording: a fact keeps one paraphrase for ever, so that no two tasks (one to train on, one held
    out) ask the same thing in different words.
    """
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    return options[int.from_bytes(digest[:4], "big") % len(options)]


def mentions_task(prompt: str, accepted: Sequence[str], *, max_tokens: int = 24) -> Draft:
    """Return a draft whose answer must name one of `accepted` (the first is the solution)."""
    return Draft(prompt, "mentions", {"accepted": list(accepted)}, accepted[0], max_tokens)


def number_task(prompt: str, value: int | float, *, max_tokens: int = 24) -> Draft:
    """Return a draft whose answer must be `value`; numbers the prompt gives may be repeated around it."""
    given = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", prompt)]
    return Draft(prompt, "number", {"value": value, "given": given}, str(value), max_tokens)


def choice_task(
    prompt: str, answer: str, options: Sequence[str], *, given: Sequence[str] = (), max_tokens: int = 16
) -> Draft:
    """Return a draft whose answer must settle on `answer` among `options`; it may repeat those `given`."""
    reference = {"answer": answer, "options": list(options), "given": [name for name in given if name != answer]}
    return Draft(prompt, "choice", reference, answer, max_tokens)


def exact_task(prompt: str, text: str, *, fold_case: bool = False, max_tokens: int = 32) -> Draft:
    """Return a draft whose answer must be `text` itself (`fold_case`: in any case)."""
    return Draft(prompt, "exact", {"text": text, "fold_case": fold_case}, text, max_tokens)
