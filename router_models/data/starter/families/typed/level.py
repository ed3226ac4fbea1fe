"""Levels of a list that goes from easy to hard."""

from collections.abc import Sequence
from typing import TypeVar

from router_models.data.starter.task import Draft

T = TypeVar("T")


def of_level(items: Sequence[T], difficulty: int) -> Sequence[T]:
    """Return the fifth of a list that is of a level; neighbouring fifths of a short list may share an item."""
    return items[(difficulty - 1) * len(items) // 5 : max(difficulty * len(items) // 5, 1)]


def states_task(prompt: str, accepted: Sequence[str], rivals: Sequence[str] = ()) -> Draft:
    """Return a draft whose answer must say one of `accepted` at its beginning, and none of `rivals`."""
    reference: dict[str, object] = {"accepted": list(accepted)}
    return Draft(prompt, "states", reference | ({"rivals": list(rivals)} if rivals else {}), f"{accepted[0]}.", 64)
