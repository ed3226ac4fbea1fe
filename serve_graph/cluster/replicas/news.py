"""What ingress replicas tell one another every second: whose requests were escalated, where conversations are, and
whether somebody waits for an answer, so that batches give way everywhere.

Nothing of it is promised: what is not heard (a replica was away, or more than `MOST` were to be told in a second) is
as it would be in a graph of one replica.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serve_graph.access.escalations import EscalationWatch
from serve_graph.access.turns import InteractiveTraffic
from serve_graph.cluster.replicas.broadcast import Replicas
from serve_graph.gateway.sessions import Session, Sessions

NEWS_EVERY_S = 1.0
NEWS_WITHIN_S = 2.0
MOST = 10_000


@dataclass(frozen=True, slots=True)
class ReplicaNews:
    """What one replica has to tell: verdicts as (key, whether escalated), conversations by their session, and
    whether somebody waits for an answer there.
    """

    teller: str
    verdicts: tuple[tuple[str, bool], ...]
    sessions: Mapping[str, Session]
    is_asked: bool = False


class SiblingNews:
    """Collects what is to be told to the siblings, and takes what they tell; `siblings` None: there is none."""

    def __init__(
        self,
        siblings: Replicas | None,
        watch: EscalationWatch,
        sessions: Callable[[], Sessions],
        clock: Callable[[], float],
        traffic: InteractiveTraffic,
    ) -> None:
        self.siblings = siblings
        self.watch = watch
        self.sessions = sessions
        self.clock = clock
        self.traffic = traffic
        self.name = uuid.uuid4().hex
        self._verdicts: list[tuple[str, bool]] = []
        self._sessions: dict[str, Session] = {}
        if siblings is not None:
            watch.on_note = self._judged
            sessions().on_note = self._answered

    def hear(self, news: ReplicaNews) -> bool:
        """Take what a replica tells; False for this one's own news."""
        if news.teller == self.name:
            return False
        now = self.clock()
        for key, escalated in news.verdicts:
            self.watch.hear(key, escalated, now)
        for name, session in news.sessions.items():
            self.sessions().hear(name, session)
        if news.is_asked:
            self.traffic.hear()
        return True

    async def run(self) -> None:
        """Tell the siblings every second what is new, for ever."""
        while self.siblings is not None:
            await asyncio.sleep(NEWS_EVERY_S)
            is_asked = self.traffic.is_here  # a request that came and went since the last time counts as well
            if self._verdicts or self._sessions or is_asked:
                news = ReplicaNews(self.name, tuple(self._verdicts), dict(self._sessions), is_asked)
                self._verdicts.clear()
                self._sessions.clear()
                await self.siblings.all("hear", news, NEWS_WITHIN_S)

    def _judged(self, key: str, escalated: bool) -> None:
        if len(self._verdicts) < MOST:
            self._verdicts.append((key, escalated))

    def _answered(self, name: str, session: Session) -> None:
        if len(self._sessions) < MOST:
            self._sessions[name] = session
