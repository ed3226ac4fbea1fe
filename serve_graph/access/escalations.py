"""The watch on escalations: prompts made to be refused by the verifier make every answer cost both tiers.

Such a key's share of escalations among judged requests stands out from everybody else's. An exact binomial test says
when that is no chance; the key is then refused until enough of its escalations have left the window. Pure: the clock
is an argument.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque

from scipy.stats import binom

from serve_graph.config.access import EscalationWatchConfig, KeyConfig

HOUR_S = 3600.0


class EscalationWatch:
    """Counts requests and escalations by key over a sliding window; `caps` is how often a request was refused."""

    def __init__(self, config: EscalationWatchConfig) -> None:
        self.config = config
        self.caps = 0
        self._seen: deque[tuple[float, str]] = deque()
        self._requests: Counter[str] = Counter()
        self._hits: dict[str, deque[float]] = {}

    def note(self, key: str, escalated: bool, now: float) -> None:
        """Count one finished request that was judged, or escalated unjudged.

        Others say nothing of escalations, and cost little: counted, they would hide a share that stands out.
        """
        self._forget(now)
        self._seen.append((now, key))
        self._requests[key] += 1
        if escalated:
            self._hits.setdefault(key, deque()).append(now)

    def stands_out(self, key: str, now: float) -> bool:
        """Whether the key's share of escalations is above `times` everybody else's by more than chance.

        Everybody else's share is taken as (escalations + 1) / (requests + 2); alone, no key stands out.
        """
        self._forget(now)
        n, escalated = self._requests[key], self._since(key, now - self.config.window_s)
        others = self._requests.total() - n
        if n < self.config.min_requests or others < self.config.min_requests:
            return False
        all_hits = sum(self._since(who, now - self.config.window_s) for who in self._hits)
        share = (all_hits - escalated + 1) / (others + 2)
        return bool(binom.sf(escalated - 1, n, min(1.0, self.config.times * share)) < self.config.alpha)

    def refuses(self, key: KeyConfig, now: float) -> float | None:
        """Seconds after which to try again where the key is to be refused; None where it is not."""
        most, window_s = key.escalations_per_h, HOUR_S
        if most is None or self._since(key.name, now - HOUR_S) < most:
            if not self.stands_out(key.name, now):
                return None
            window_s = self.config.window_s
        self.caps += 1
        oldest = next((at for at in self._hits[key.name] if at > now - window_s), now)
        return max(1.0, oldest + window_s - now)

    def _since(self, key: str, moment: float) -> int:
        """How many escalations of the key came after a moment."""
        hits = self._hits.get(key, deque())
        return len(hits) - bisect_right(hits, moment)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] <= now - self.config.window_s:
            self._requests[self._seen.popleft()[1]] -= 1
        for hits in self._hits.values():
            while hits and hits[0] <= now - max(self.config.window_s, HOUR_S):
                hits.popleft()
