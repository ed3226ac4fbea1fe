"""Changes in traffic that nobody labelled: where nothing has changed one is reported as rarely as is said.

Negative controls: every test by itself at the same level, and turns of conversations taken for requests, report far
more. A shift of half a standard deviation is found in the first window after it.
"""

from dataclasses import replace

import numpy as np

from router_models.monitoring.traffic_changes import ServedDecision, compare_traffic

N, LEVEL = 500, 0.01


def window(rng: np.random.Generator, n: int, shift: float = 0.0, turns: int = 1) -> list[ServedDecision]:
    """Decisions whose figures hang together, as those of one request do; `turns` of a conversation are alike."""
    made = []
    for at in range(n // turns):
        ease = rng.normal() - shift
        score = 1 / (1 + np.exp(-ease))
        tried = score > 0.4
        escalated = bool(rng.random() > score * 0.6 + 0.4) if tried else None
        one = ServedDecision(
            "cheap" if tried and not escalated else "frontier",
            score,
            score if tried else None,
            abs(ease),
            escalated,
            bool(rng.random() < 0.02),
            bool(rng.random() < 0.1),
            bool(abs(ease) > 2),
            (at,),
        )
        made += [one] * turns
    return made


def shares(
    runs: int, seed: int, shift: float = 0.0, turns: int = 1, *, as_requests: bool = False
) -> tuple[float, float]:
    """Of runs: those with a change reported, and those where any test by itself reaches the level."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(runs):
        before, now = window(rng, N, turns=turns), window(rng, N, shift, turns)
        if as_requests:
            before, now = ([replace(d, units=()) for d in part] for part in (before, now))
        changes = compare_traffic(before, now)
        found.append((any(c.is_reported for c in changes), any(c.p_value <= LEVEL for c in changes)))
    return tuple(np.mean(found, axis=0))  # type: ignore[return-value]


def test_where_nothing_has_changed_a_change_is_reported_as_rarely_as_is_said(size, allowed, measured):
    runs = size(150, 2000)
    reported, by_itself = shares(runs, 24)
    measured(f"a change reported in {reported:.4f} of {runs} windows; by single tests in {by_itself:.4f}")
    assert reported * runs <= allowed(runs, LEVEL)
    assert by_itself * runs > allowed(runs, LEVEL), "the negative control: single tests report too much"


def test_turns_of_a_conversation_are_no_requests_of_their_own(size, allowed, measured):
    runs = size(30, 400)
    counted, as_requests = shares(runs, 25, turns=5)[0], shares(runs, 25, turns=5, as_requests=True)[0]
    measured(f"with five turns each: {counted:.3f} of {runs} windows, {as_requests:.3f} where every turn counts")
    assert counted * runs <= allowed(runs, LEVEL)
    assert as_requests * runs > allowed(runs, LEVEL), "the negative control"


def test_half_a_standard_deviation_is_found_in_one_window(size, measured):
    runs = size(30, 300)
    found, _ = shares(runs, 26, shift=0.5)
    measured(f"a shift of half a standard deviation is reported in {found:.3f} of {runs} windows of {N}")
    assert found >= 0.95
