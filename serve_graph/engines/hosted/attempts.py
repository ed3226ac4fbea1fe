"""Decide which deployment to call next for a request, and when. Pure: time and random numbers are arguments.

A failed request goes at once to a deployment that it has not tried while fallbacks are left, otherwise back to one it
has, after a pause. At most `max_attempts` calls are made, and none starts after the deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from router_models.types import Attempt
from serve_graph.config.tiers.parts import FailoverConfig
from serve_graph.engines.error_meanings import ErrorFault, ErrorMeaning
from serve_graph.engines.hosted.breaker import Breaker
from serve_graph.engines.hosted.deployment_error import REFUSED, DeploymentError
from serve_graph.engines.scores import NO_SCORE

MOMENT_S = 0.001  # anything sooner counts as now
WHOLE_SHARE = 0.9
"""Of the time that a tier gives a call: a call that has less, and runs out of it, says nothing of its deployment."""


@dataclass(frozen=True, slots=True)
class Try:
    """Call `deployment` now for at most `timeout_s` seconds; `probe` is what its breaker's `begin` returned.

    `is_cut`: these are fewer than the tier itself gives a call, by the caller's deadline or what came before, or
    nobody waits for the answer: it is not the one probe of a breaker.
    """

    deployment: str
    timeout_s: float
    probe: bool
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds, then ask again."""

    seconds: float


@dataclass(slots=True)
class Attempts:
    """The calls of one request to a tier's deployments. `deadline` is on the same clock as every `now`.

    `weights` and `breakers` have the same keys; all requests share the breakers. `own_limit_s` is the tier's time
    limit, whatever this request's is. `is_beside`: nobody waits for the answer, as with a judge's; what fails then
    trips no breaker, since it would be callers' requests that are refused.
    """

    weights: Mapping[str, float]
    breakers: Mapping[str, Breaker]
    config: FailoverConfig
    deadline: float
    draw: Callable[[], float]
    own_limit_s: float
    is_beside: bool = False
    made: list[Attempt] = field(default_factory=list)
    last: DeploymentError | None = None
    ready_at: dict[str, float] = field(default_factory=dict)
    ruled_out: set[str] = field(default_factory=set)

    def next(self, now: float) -> Try | Pause:
        """Return the next step; raises DeploymentError if none is left."""
        left = self.deadline - now
        if left <= 0:
            raise self._given_up(504, "the time limit is reached")
        if len(self.made) >= self.config.max_attempts:
            raise self._given_up(503, "no attempt is left")
        open_to = self._open_to()
        if not open_to:
            raise self._given_up(503, "no other deployment is left")
        longest = self.config.attempt_timeout_s or math.inf
        is_cut = self.is_beside or left < WHOLE_SHARE * min(longest, self.own_limit_s)
        free_at = {name: self.breakers[name].free_at(now, is_cut=is_cut) for name in open_to}
        when = {name: max(free_at[name], self.ready_at.get(name, now)) for name in open_to}
        ready = [name for name in open_to if when[name] <= now + MOMENT_S]
        if ready:
            name = self._choose(ready)
            return Try(name, min(left, longest), self.breakers[name].begin(is_cut=is_cut), is_cut)
        soonest = min(open_to, key=lambda name: when[name])
        wait = when[soonest] - now
        if when[soonest] > self.ready_at.get(soonest, now):  # many requests may wait for this cooldown: spread them
            wait += self.draw() * self.config.backoff_s
        if wait >= left or wait > self.config.max_wait_s:
            if all(self.breakers[name].misconfigured for name in open_to):
                raise self._given_up(503, f"every deployment is cooling down: {REFUSED}", fault=ErrorFault.SETUP)
            broken = all(self.breakers[name].tripped for name in open_to)
            raise self._given_up(503 if broken else 429, "every deployment is cooling down", wait)
        return Pause(wait)

    def answered(self, tried: Try, latency_s: float) -> None:
        """Record that a call was answered (for a stream: that it started). A successful probe closes the breaker."""
        if tried.probe:
            self.breakers[tried.deployment].succeeded(True)
        self.made.append(Attempt(tried.deployment, 200, latency_s))

    def ended(self, tried: Try) -> None:
        """Record that the answer is complete. A deployment that interrupts its streams does not count as healthy."""
        self.breakers[tried.deployment].succeeded(False)

    def failed(self, tried: Try, error: DeploymentError, now: float, latency_s: float) -> None:
        """Record a failed call and when its deployment may be retried; re-raises an error of the request itself.

        Its breaker hears of it first, and whatever is raised in that ends a probe: one that nobody reports would keep
        its deployment from every later call.
        """
        try:
            self._tell_breaker(tried, error, now, latency_s)
        except BaseException:
            self.dropped(tried)
            raise
        name = tried.deployment
        self.made.append(Attempt(name, error.status, latency_s, dict(error.usage or {})))
        if self.last is None or not error.is_setups_fault or self.last.is_setups_fault:
            self.last = error  # one that is well but busy says more than one that refuses everybody
        if error.is_requests_fault:
            error.attempts = tuple(self.made)
            raise error
        if error.is_setups_fault or error.kind == NO_SCORE:
            self.ruled_out.add(name)
        before = sum(attempt.deployment == name for attempt in self.made) - 1
        backoff = min(self.config.backoff_max_s, self.config.backoff_s * 2**before)
        self.ready_at[name] = now + backoff * (0.5 + 0.5 * self.draw())

    def dropped(self, tried: Try) -> None:
        """Record that the client disconnected during the call, or that its own time for it was over."""
        self.breakers[tried.deployment].dropped(tried.probe, is_cut=tried.is_cut)

    def _tell_breaker(self, tried: Try, error: DeploymentError, now: float, latency_s: float) -> None:
        breaker = self.breakers[tried.deployment]
        if error.is_requests_fault:
            breaker.succeeded(tried.probe)
        elif self.is_beside or (tried.is_cut and latency_s >= tried.timeout_s - MOMENT_S):
            self.dropped(tried)
        else:
            breaker.failed(tried.probe, now, error.retry_after_s, is_setups_fault=error.is_setups_fault)

    def _open_to(self) -> list[str]:
        """Return the deployments that this request may still call."""
        tried = {attempt.deployment for attempt in self.made}
        may_leave = len(tried) <= self.config.max_fallbacks
        names = self.weights if may_leave else tried
        return [name for name in self.weights if name in names and name not in self.ruled_out]

    def _choose(self, ready: Sequence[str]) -> str:
        """Choose by weight, untried deployments first; spares (weight 0) only if nothing else is ready."""
        fresh = [name for name in ready if name not in self.ready_at] or ready
        regular = [name for name in fresh if self.weights[name] > 0] or fresh
        weights = [self.weights[name] or 1.0 for name in regular]
        point = self.draw() * math.fsum(weights)
        for name, weight in zip(regular, weights, strict=True):
            point -= weight
            if point < 0:
                return name
        return regular[-1]

    def _given_up(
        self, status: int, why: str, wait_s: float | None = None, fault: ErrorFault | None = None
    ) -> DeploymentError:
        """Return the error of the whole request, with the last call's status if there was one."""
        retry_after = None if wait_s is None else wait_s if math.isfinite(wait_s) else self.config.backoff_s
        if self.last is None:
            return DeploymentError(why, status, retry_after, meaning=ErrorMeaning(fault) if fault else None)
        last = self.last
        retry_after = last.retry_after_s if retry_after is None else retry_after
        text = f"{last.message} ({why})"
        return DeploymentError(text, last.status, retry_after, None, self.made, last.meaning, last.kind)
