"""Detection of keys whose requests are escalated far more often than everybody else's.

Prompts crafted to fail verification make every answer cost both tiers. An exact binomial test decides whether a key's
share of escalations, among the requests that were verified, exceeds that of all other keys by more than chance; such a
key is refused until enough of its escalations have left the window. Pure: the clock is an argument.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable

from scipy.special import bdtrc

from serve_graph.config.access import EscalationWatchConfig, KeyConfig

HOUR_S = 3600.0


class EscalationWatch:
    """Counts requests and escalations by key over a sliding window; `caps` counts the refused requests.

    `on_note` is told of every request that is noted.
    """

    def __init__(self, config: EscalationWatchConfig) -> None:
        self.config = config
        self.caps = 0
        self.on_note: Callable[[str, bool], None] | None = None
        self._seen: deque[tuple[float, str]] = deque()
        self._requests: Counter[str] = Counter()
        self._hits: dict[str, deque[float]] = {}

    def note(self, key: str, escalated: bool, now: float) -> None:
        """Count one finished request that was verified, or escalated without verification.

        Do not pass other requests: they cost little, and counting them would dilute a conspicuous share.
        """
        self.hear(key, escalated, now)
        if self.on_note is not None:
            self.on_note(key, escalated)

    def hear(self, key: str, escalated: bool, now: float) -> None:
        """Count a request that another ingress replica has answered, as `note`; nobody is told."""
        self._forget(now)
        self._seen.append((now, key))
        self._requests[key] += 1
        if escalated:
            self._hits.setdefault(key, deque()).append(now)

    def stands_out(self, key: str, now: float) -> bool:
        """Whether the odds of the key's escalations exceed `times` those of all other keys by more than chance.

        The others' share is estimated as (escalations + 1) / (requests + 2). A key without others is never flagged.
        """
        self._forget(now)
        n, escalated = self._requests[key], self._since(key, now - self.config.window_s)
        others = self._requests.total() - n
        if n < self.config.min_requests or others < self.config.min_requests:
            return False
        all_hits = sum(self._since(name, now - self.config.window_s) for name in self._hits)
        share = (all_hits - escalated + 1) / (others + 2)
        odds = self.config.times * share / (1.0 - share)  # of shares a third would be the largest that can stand out
        return bool(bdtrc(escalated - 1, n, odds / (1.0 + odds)) < self.config.alpha)

    def refuses(self, key: KeyConfig, now: float) -> float | None:
        """Return the seconds after which to retry if the key is to be refused, else None."""
        most, window_s = key.escalations_per_h, HOUR_S
        if most is None or self._since(key.name, now - HOUR_S) < most:
            if not self.stands_out(key.name, now):
                return None
            window_s = self.config.window_s
        self.caps += 1
        oldest = next((at for at in self._hits[key.name] if at > now - window_s), now)
        return max(1.0, oldest + window_s - now)

    def _since(self, key: str, moment: float) -> int:
        """Count the key's escalations after a point in time."""
        hits = self._hits.get(key, deque())
        return len(hits) - bisect_right(hits, moment)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] <= now - self.config.window_s:
            self._requests[self._seen.popleft()[1]] -= 1
        for hits in self._hits.values():
            while hits and hits[0] <= now - max(self.config.window_s, HOUR_S):
                hits.popleft()
