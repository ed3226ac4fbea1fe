"""What every provider's batches are driven by: send lines, look, read what came of them, tidy up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from serve_graph.cli.batch.providers.provider_ledger import ProviderLine, Submission

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
GONE_STATUSES = frozenset({404, 410})
GONE = "gone"
"""The status of a batch that is not at the provider any more, or whose answers are not."""
PROVIDER_TRIES, LONGEST_WAIT_S = 8, 60.0
ProviderReply = dict[str, Any]
"""OpenAI's chat.completion with `service_tier: batch`, or an object with its `error`."""
T = TypeVar("T")


class ProviderError(Exception):
    """A provider refused a call, or did not answer (`status` None)."""

    def __init__(self, said: str, status: int | None = None) -> None:
        super().__init__(said)
        self.said = said
        self.status = status

    @property
    def is_gone(self) -> bool:
        """Whether what was asked for is not there."""
        return self.status in GONE_STATUSES

    @property
    def may_pass(self) -> bool:
        """Whether the same call may be answered in a moment."""
        return self.status is None or self.status in PASSING


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """A batch as it stands. `said`: what is wrong with all of it; `files`: where its answers are, and what is left."""

    id: str
    status: str
    done: int = 0
    total: int = 0
    said: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class BatchApi(Protocol):
    """One provider's batches. Everything raises ProviderError, after tries where that may help."""

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A request as this API takes it in a line."""

    async def find_batch(self, begun: Submission, lines: Sequence[ProviderLine]) -> str | None:
        """The id of the batch that a submission has at the provider; None where it has none."""

    async def file_of(self, begun: Submission, lines: Sequence[ProviderLine], is_new: bool) -> str:
        """The id of the file that the lines are in at the provider, uploaded unless it is there; "" for none."""

    async def create(self, begun: Submission, file: str, lines: Sequence[ProviderLine]) -> str:
        """Create the batch unless it is there; returns its id."""

    async def look(self, batch: str) -> ProviderBatch:
        """A batch as it stands."""

    async def replies(self, found: ProviderBatch, lines: Sequence[ProviderLine]) -> dict[str, ProviderReply]:
        """What came of the lines of a batch that has ended, by their keys."""

    async def remains(self, found: ProviderBatch, lines: Sequence[ProviderLine]) -> dict[str, ProviderReply]:
        """What can still be read of the answers of a batch that is gone, by the lines' keys."""

    async def tidy(self, found: ProviderBatch) -> None:
        """Delete what a batch left at the provider; where that fails it stays until its own retention ends."""

    async def close(self) -> None:
        """Close the connections."""


async def tried_again(call: Callable[[], Awaitable[T]], pause_s: float) -> T:
    """Read something, again after failures that may pass."""
    for attempt in range(PROVIDER_TRIES):
        try:
            return await call()
        except ProviderError as error:
            await paused(error, attempt, pause_s)
    raise AssertionError("the last failure was raised")


async def created_once(
    send: Callable[[], Awaitable[str]], find: Callable[[], Awaitable[str | None]], pause_s: float
) -> str:
    """Send what creates something; after a failure whose end is not known, look for it before it is sent again."""
    for attempt in range(PROVIDER_TRIES):
        if attempt and (there := await tried_again(find, pause_s)) is not None:
            return there
        try:
            return await send()
        except ProviderError as error:
            await paused(error, attempt, pause_s)
    raise AssertionError("the last failure was raised")


async def paused(error: ProviderError, attempt: int, pause_s: float) -> None:
    """Wait before the next try; raises the error where there is none, or it would not help."""
    if not error.may_pass or attempt + 1 == PROVIDER_TRIES:
        raise error
    await asyncio.sleep(min(LONGEST_WAIT_S, pause_s * 2**attempt))
