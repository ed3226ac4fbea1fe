"""Which conversations are under way, and on which tier: remembered in memory, for as long as its cache may be warm.

Each ingress replica remembers what it answered itself, and what its siblings tell it every second. A turn that finds
no session is routed like a first turn, which is always allowed: sessions save money, they promise nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from router_models.pricing.savings import answering_call
from router_models.types import DecisionRecord, Query


@dataclass(frozen=True, slots=True)
class Session:
    """Where a conversation was answered last: tokens so far (prompt and answer), and how long its answer was."""

    tier: str
    prefix_tokens: int
    answer_tokens: int
    opening: str
    at: float


class Sessions:
    """Conversations by id. `ttl_s` by tier: 0 remembers nothing. The oldest go first where there are over `most`."""

    def __init__(self, ttl_s: Mapping[str, float], most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.ttl_s = ttl_s
        self.most = most
        self.clock = clock
        self.on_note: Callable[[str, Session], None] | None = None
        self._found: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, session: str, query: Query) -> Session | None:
        """The conversation, if its cache may still be warm and it began as this query does: ids are often users'."""
        found = self._found.get(session)
        if found is None or found.opening != opening(query):
            return None
        if self.clock() >= found.at + self.ttl_s.get(found.tier, 0.0):
            del self._found[session]
            return None
        return found

    def note(self, record: DecisionRecord, query: Query) -> None:
        """Remember where a conversation was answered."""
        answer = answering_call(record, record.tier)
        if record.session is None or answer is None or self.ttl_s.get(record.tier, 0.0) <= 0:
            return
        tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens
        session = Session(record.tier, tokens, answer.usage.completion_tokens, opening(query), self.clock())
        self.keep(record.session, session)

    def keep(self, name: str, session: Session) -> None:
        """Remember a conversation, and tell of it."""
        self.hear(name, session)
        if self.on_note is not None:
            self.on_note(name, session)

    def hear(self, name: str, session: Session) -> None:
        """Remember a conversation that another ingress replica has answered: as of now, as clocks of nodes differ."""
        self._found[name] = replace(session, at=self.clock())
        self._found.move_to_end(name)
        while len(self._found) > self.most:
            self._found.popitem(last=False)


def opening(query: Query) -> str:
    """A hash of how a conversation began: everything up to its first user message."""
    digest = hashlib.sha256()
    for message in query.messages:
        digest.update(f"{message.role}\0{message.content}\0".encode("utf-8", "replace"))
        if message.role == "user":
            break
    return digest.hexdigest()
