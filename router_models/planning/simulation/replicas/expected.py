"""Calls that each tier will soon have, by what is under way at cheaper ones: the rule of graphs and simulations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

ShareOfCalls = Callable[[str, str], float]
"""(tier, other tier) → a share of the tier's calls, in [0, 1]."""


def expected_calls(
    under_way: Mapping[str, float],
    service_s: Mapping[str, float | None],
    sent_on: ShareOfCalls,
    came_from: ShareOfCalls,
) -> dict[str, float]:
    """Return the calls that each tier has once what is at cheaper tiers now has been answered there.

    Parameters
    ----------
    under_way : mapping of str to float
        Requests that each tier has now, at work or waiting.
    service_s : mapping of str to float or None
        Seconds that a call of each tier takes; None: not known, taken to be as long as the others'.
    sent_on : callable
        (cheaper, tier): the share of the cheaper tier's calls that a call of the tier comes after.
    came_from : callable
        (tier, cheaper): the share of the tier's calls that come after one of the cheaper tier.

    Returns
    -------
    dict of str to float
        Never fewer than are under way. Of n calls of tier t, a share p is sent on to tier u; of u's m calls, a share
        q came from t. While those n are answered, p·n·min(1, sᵤ/sₜ) come and stay, and q·m·min(1, sₜ/sᵤ) end: equal
        where traffic is steady, by Little's law, so that only what changes counts.
    """
    found = {}
    for tier, here in under_way.items():
        change = 0.0
        for cheaper, there in under_way.items():
            if (share := sent_on(cheaper, tier)) > 0:
                takes, took = service_s.get(tier), service_s.get(cheaper)
                slower = takes / took if takes and took else 1.0
                change += share * there * min(1.0, slower)
                change -= came_from(tier, cheaper) * here * min(1.0, 1 / slower)
        found[tier] = here + max(0.0, change)
    return found
