"""Whether recorded outcomes can be learned from, and leave something to save."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.pricing.call_costs import call_costs
from router_models.pricing.tier_costs import check_ladder
from router_models.training.candidate import Settings

LEAST_PROMPTS = 60
CLEARLY = 1.645
"""Standard errors by which a dearer tier must be worse before it is refused."""


def check_outcomes(table: OutcomeTable, settings: Settings) -> None:
    """Raise DataError where these outcomes, at these prices, cannot be learned from or have nothing to save."""
    if len(table) < LEAST_PROMPTS:
        raise DataError(
            f"{len(table)} prompts are graded for every tier; at least {LEAST_PROMPTS} are needed to fit, calibrate "
            "and certify on separate ones: collect more"
        )
    right = {tier: table.grade(tier) for tier in settings.tiers}
    top = settings.tiers[-1]
    for tier, grades in right.items():
        if grades.min() == grades.max() and (tier != top or grades[0] < 1):
            known = {0.0: f"leave {tier!r} out", 1.0: f"serve {tier!r} alone"}.get(float(grades[0]), "collect others")
            raise DataError(f"every grade of tier {tier!r} is {grades[0]:g}: there is nothing to tell apart; {known}")
    usd = {tier: call_costs(table, tier, settings.prices[tier]) for tier in settings.tiers}
    for tier in settings.tiers[:-1]:
        check_ladder(usd, right, tier, top)
        less = right[top] - right[tier]
        if less.mean() + CLEARLY * less.std() / np.sqrt(len(less)) < 0:
            raise DataError(
                f"{top!r} is dearer than {tier!r} (${usd[top].mean():.3g} against ${usd[tier].mean():.3g} a call) and "
                f"worse ({right[top].mean():.1%} right against {right[tier].mean():.1%}): serve {tier!r} alone"
            )


def check_classes(part: OutcomeTable, purpose: str, tiers: Sequence[str]) -> None:
    """Raise DataError where a tier's answers to these prompts are all right, or all wrong.

    Parameters
    ----------
    part : OutcomeTable
        The prompts.
    purpose : str
        What they are for, for the message.
    tiers : sequence of str
        The tiers that are looked at.
    """
    for tier in tiers:
        grades = part.grade(tier)
        if len(part) == 0 or grades.min() == grades.max():
            raise DataError(
                f"of the {len(part)} prompts to {purpose}, tier {tier!r} answered all alike (all right or all wrong): "
                "collect more, or harder and easier ones"
            )
