"""One δ for everything that a version promises, so that all of it holds at once.

The risk of accepted answers, the share of abstentions, the verdict on first tokens and the overload fallback are
tested apart. Each holds with confidence 1 - δ; that all four hold at once is sure only to 1 - 4δ. With δ divided by
their number all of them hold at once with 1 - δ.
"""

from __future__ import annotations

from dataclasses import replace

from router_models.training.candidate import Settings


def statements(settings: Settings, *, prefix: bool = False, overload: bool = False) -> int:
    """How many statements are tested apart: what `certificate.separate` will count at most, and those beside it.

    Parameters
    ----------
    settings : Settings
        What is to be promised. Thresholds that are certified together (`answered`, and `harm` of three tiers or more)
        make one test of all their risks.
    prefix, overload : bool
        Whether a prefix point, or an overload point, is asked for.
    """
    abstention = not settings.joint and settings.abstain_share > 0
    return 1 + abstention + prefix + overload


def jointly(settings: Settings, *, prefix: bool = False, overload: bool = False) -> Settings:
    """The settings with δ divided among the statements, for each of them."""
    return replace(settings, delta=settings.delta / statements(settings, prefix=prefix, overload=overload))
