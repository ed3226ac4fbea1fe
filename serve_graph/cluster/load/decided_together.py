"""Decisions that embed their prompts: those that wait at the same time are embedded with one call, and made together.

Eight short prompts at once take the encoder half as long as one by one, and what follows a fifth. An embedding is the
same whoever is embedded beside it, to 1e-6 by test, bit for bit where it was measured
(docs/decisions/project/cluster/0076); so are estimates and distances. Nobody waits for a batch to fill: it is what has
come while the one before was under way, of about one length, and no more text than one long prompt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from router_models.data.embeddings.recent_vectors import RecentVectors
from router_models.types import Decision, PromptEmbedding, Query
from router_models.versions.router_version import RouterVersion

MOST_TOGETHER = 16
MOST_TEXT = 1_024
"""Characters of a batch, every prompt counted as long as the longest: it takes no longer than one quick prompt may."""
ALIKE = 1.5
"""By how many times the longest prompt of a batch is longer than the shortest at most: shorter ones are padded."""
SHORTEST = 32
"""Characters below which prompts count as equally long."""

MOST_KNOWN = 512
"""Prompts whose embeddings are kept, 1.5 kB each, for when they come again: agents and retries repeat theirs."""


@dataclass(frozen=True, slots=True)
class WaitingDecision:
    """A decision that somebody waits for."""

    version: RouterVersion
    query: Query
    done: asyncio.Future[Decision]

    @property
    def size(self) -> int:
        return max(len(self.query.text), SHORTEST)


class DecidedTogether:
    """Make decisions in batches, in a thread, or on the event loop where there is none (`thread` None)."""

    def __init__(self, thread: Executor | None) -> None:
        self._thread = thread
        self._waiting: deque[WaitingDecision] = deque()
        self._recent = RecentVectors(MOST_KNOWN)
        self._is_running = False

    async def decide(self, version: RouterVersion, query: Query) -> Decision:
        """The version's decision, made with those of others that ask meanwhile; raises what making it alone does."""
        loop = asyncio.get_running_loop()
        waiting = WaitingDecision(version, query, loop.create_future())
        self._waiting.append(waiting)
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._next)  # after all that can run now: others may ask at this moment
        return await waiting.done

    def _next(self) -> None:
        taken = self._take()
        if not taken:
            self._is_running = False
            return
        loop = asyncio.get_running_loop()
        if self._thread is None:
            try:
                _settle(taken, decide_all(taken, self._recent))
            except BaseException as fault:
                _settle(taken, [_as_error(fault)] * len(taken))
                if isinstance(fault, KeyboardInterrupt | SystemExit):
                    raise
            finally:  # those that wait behind it are decided whatever happened here
                loop.call_soon(self._next)
            return
        try:
            made = loop.run_in_executor(self._thread, decide_all, taken, self._recent)
        except RuntimeError as error:  # the thread has ended, with its process
            taken += self._waiting
            self._waiting.clear()
            _settle(taken, [error] * len(taken))
            self._is_running = False
            return
        made.add_done_callback(partial(self._made, taken))

    def _made(self, taken: Sequence[WaitingDecision], made: asyncio.Future[list[Decision | Exception]]) -> None:
        if made.cancelled():
            for one in taken:
                one.done.cancel()
        else:
            fault = made.exception()
            failed = None if fault is None else _as_error(fault)
            _settle(taken, made.result() if failed is None else [failed] * len(taken))
        self._next()

    def _take(self) -> list[WaitingDecision]:
        """The one that waits longest, and those that go with it; what was given up is dropped."""
        left = [one for one in self._waiting if not one.done.done()]
        taken, shortest, longest = list[WaitingDecision](), 0, 0
        self._waiting.clear()
        for one in left:
            low, high = min(shortest or one.size, one.size), max(longest, one.size)
            fits = high <= ALIKE * low and (len(taken) + 1) * high <= MOST_TEXT and len(taken) < MOST_TOGETHER
            if not taken or (fits and one.version is taken[0].version):
                taken.append(one)
                shortest, longest = low, high
            else:
                self._waiting.append(one)
        return taken


def decide_all(taken: Sequence[WaitingDecision], recent: RecentVectors) -> list[Decision | Exception]:
    """The decisions on prompts of one version, embedded and made together, or what went wrong with each.

    Where that is not possible each is decided by itself: one prompt that the encoder or a router refuses is nobody
    else's fault.
    """
    version, queries = taken[0].version, [one.query for one in taken]
    embedded: list[PromptEmbedding | None] = [None] * len(taken)
    try:
        embedded = list(recent.of_queries(version.encoder, queries))
        return list(version.decide_all(queries, embedded))
    except Exception as error:  # noqa: BLE001 (it is raised where each is waited for)
        return [error] if len(taken) == 1 else [_decided(*each) for each in zip(taken, embedded, strict=True)]


def _decided(one: WaitingDecision, made: PromptEmbedding | None) -> Decision | Exception:
    try:
        return one.version.decide(one.query, made)
    except Exception as error:  # noqa: BLE001 (it is raised where this one is waited for: others have theirs)
        return error


def _as_error(fault: BaseException) -> Exception:
    return fault if isinstance(fault, Exception) else RuntimeError(type(fault).__name__)


def _settle(taken: Sequence[WaitingDecision], made: Sequence[Decision | Exception]) -> None:
    for one, found in zip(taken, made, strict=True):
        if one.done.done():
            continue
        if isinstance(found, Exception):
            one.done.set_exception(RuntimeError("StopIteration") if isinstance(found, StopIteration) else found)
        else:
            one.done.set_result(found)
