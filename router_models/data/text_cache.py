"""What was counted in a text is counted once while several families look at the same prompts, and then forgotten.

An ensemble fits and asks its members on overlapping parts of one training set, and each member reads the texts anew:
more than half of the default router's fitting time, measured. Inside `each_text_once()` a reader's results are kept by
text; nothing outlives the block, so that a server holds no prompt it has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
_kept: ContextVar[dict[str, dict[str, Any]] | None] = ContextVar("kept", default=None)


@contextmanager
def each_text_once() -> Iterator[None]:
    """Keep what `cached_by_text` computes until the block ends; a block inside a block shares the outer one's."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def cached_by_text(reader: str, texts: Sequence[str], read: Callable[[list[str]], list[T]]) -> list[T]:
    """`read(texts)`, one result per text, in order; inside `each_text_once` only for texts that `reader` has not read.

    A result must depend on its text alone, and must not be changed by whoever receives it.
    """
    kept = _kept.get()
    if kept is None:
        return read(list(texts))
    known = kept.setdefault(reader, {})
    new = [text for text in dict.fromkeys(texts) if text not in known]
    if new:
        known.update(zip(new, read(new), strict=True))
    return [known[text] for text in texts]
