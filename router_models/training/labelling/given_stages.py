"""What a candidate is given instead of choosing or fitting it: stages of another one, routers made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers import LengthRouter, RouterModel
from router_models.training.selection.model_selection import Scored, simplest_good
from router_models.versions.sealed.tier_models import Stage


@dataclass(frozen=True)
class RouterChoice:
    """Hold a tier's router, fitted, and what was tried: the baseline first, the router's own result last.

    `said`: a sentence on what it was made of; empty: nothing to say.
    """

    router: RouterModel
    tried: tuple[Scored, ...]
    said: str = ""

    @property
    def best(self) -> Scored:
        """The router's own result, out of fold."""
        return self.tried[-1]


@dataclass(frozen=True)
class GivenStages:
    """Hold what a candidate does not choose or fit.

    Parameters
    ----------
    kept : mapping of tier to Stage
        Models of another candidate, as they are, for tiers below the last.
    routers : mapping of tier to RouterChoice
        Routers that were fitted in a way of their own.
    """

    kept: Mapping[str, Stage] = field(default_factory=dict)
    routers: Mapping[str, RouterChoice] = field(default_factory=dict)


def kept_results(stage: Stage, tune: OutcomeTable, tier: str, seed: int) -> tuple[Scored, ...]:
    """What a router that was kept is worth on prompts that it did not see, beside prompt length."""
    assert stage.router is not None
    scores = {LengthRouter.family: LengthRouter().predict(tune.prompts)}
    scores[stage.router.family] = stage.estimate_route(tune.prompts)
    return tuple(simplest_good(LengthRouter.family, scores, tune.grade(tier), tune.groups, seed)[1])
