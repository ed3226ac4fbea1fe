"""Describe traffic where there are no outcomes yet: slices with shares, expected accuracies and tokens.

The mix is expanded into prompts: per slice its share of them, right and wrong answers in the stated proportions, and
scores that separate right from wrong with a stated AUC (binormal: Normal(d, 1) against Normal(0, 1), AUC = Φ(d/√2)).
Estimates are exact posteriors, so that they are calibrated by construction. Within a slice the two tiers are assumed
to err independently unless the mix states how often the frontier is right where the cheap tier is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.errors import DataError
from router_models.planning.workload import Workload
from router_models.pricing.tier_costs import TierCosts, check_ladder, lognormal_seconds
from router_models.risk_control.evidence import CascadeEvidence
from router_models.types import BoolArray, FloatArray, Usage

PROMPTS = 8_000


@dataclass(frozen=True, slots=True)
class TrafficSlice:
    """Hold one kind of request.

    Parameters
    ----------
    name : str
        The slice.
    share : float
        Its share of the traffic, in [0, 1].
    weak_right, strong_right : float
        The two tiers' accuracies, in [0, 1].
    input_tokens, output_tokens : float
        Tokens of a call.
    strong_right_when_weak_wrong : float, optional
        P(the frontier is right | the cheap tier is wrong); None = the tiers err independently.

    Raises
    ------
    DataError
        For values outside these ranges, or accuracies that contradict each other.
    """

    name: str
    share: float
    weak_right: float
    strong_right: float
    input_tokens: float
    output_tokens: float
    strong_right_when_weak_wrong: float | None = None

    def __post_init__(self) -> None:
        for name in ("share", "weak_right", "strong_right", "strong_right_when_weak_wrong"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"slice {self.name!r}: {name} must lie in [0, 1], found {value}")
        for name in ("input_tokens", "output_tokens"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise DataError(f"slice {self.name!r}: {name} must be a finite number ≥ 0, found {value}")
        hard = self.strong_right_when_weak_wrong
        if hard is not None and not 0 <= self._strong_when_weak_right(hard) <= 1:
            raise DataError(f"slice {self.name!r}: the three accuracies contradict each other")

    def strong_right_given(self, weak_right: bool) -> float:
        """Return P(the frontier is right | whether the cheap tier is)."""
        hard = self.strong_right_when_weak_wrong
        if hard is None:
            return self.strong_right
        return self._strong_when_weak_right(hard) if weak_right else hard

    def _strong_when_weak_right(self, hard: float) -> float:
        if self.weak_right == 0:
            return self.strong_right
        return (self.strong_right - (1 - self.weak_right) * hard) / self.weak_right


def workload_of_mix(
    slices: Sequence[TrafficSlice],
    cheap: str,
    frontier: str,
    terms: Mapping[str, TierCosts],
    *,
    router_auc: float,
    verifier_auc: float,
    name: str = "traffic mix",
    prompts: int = PROMPTS,
    seed: int = 0,
) -> Workload:
    """Expand a mix into a workload.

    Parameters
    ----------
    slices : sequence of TrafficSlice
        Their shares sum to 1.
    cheap, frontier : str
        The two tiers.
    terms : mapping of str to TierCosts
        Prices and assumptions by tier.
    router_auc, verifier_auc : float
        AUC *within* a slice, in [½, 1); the slice itself is assumed to be recognised.
    name : str
        The workload's name.
    prompts : int
        How many prompts to expand it into.
    seed : int
        Seeds the draws.

    Returns
    -------
    Workload

    Raises
    ------
    DataError
        Where shares do not sum to 1, an AUC is out of range, or the tiers cannot save anything.
    """
    total = sum(s.share for s in slices)
    if not slices or abs(total - 1) > 1e-6:
        raise DataError(f"the slices' shares must sum to 1, found {total:g}")
    for what, value in (("router_auc", router_auc), ("verifier_auc", verifier_auc)):
        if not 0.5 <= value < 1:
            raise DataError(f"{what} must lie in [0.5, 1), found {value}")
    counts = np.floor(np.cumsum([0.0, *(s.share for s in slices)]) * prompts + 1e-9).astype(int)
    which = np.repeat(np.arange(len(slices)), np.diff(counts))
    n = len(which)
    chance = np.random.default_rng(seed)
    cheap_right = np.zeros(n)
    frontier_right = np.zeros(n)
    for k, part in enumerate(slices):
        rows = np.flatnonzero(which == k)
        cheap_right[rows] = _exact_share(len(rows), part.weak_right, chance)
        for was_right in (True, False):
            some = rows[cheap_right[rows] == was_right]
            frontier_right[some] = _exact_share(len(some), part.strong_right_given(was_right), chance)
    prior = np.array([s.weak_right for s in slices])[which]
    before = posterior(prior, cheap_right, router_auc, chance)
    after = posterior(before, cheap_right, verifier_auc, chance)
    usd = {tier: _usd(slices, which, terms[tier]) for tier in (cheap, frontier)}
    check_ladder(usd, {cheap: cheap_right, frontier: frontier_right}, cheap, frontier)
    seen = CascadeEvidence(
        (cheap, frontier),
        before[:, None],
        np.column_stack([after, np.ones(n)]),
        np.column_stack([usd[cheap], usd[frontier]]),
        np.column_stack([cheap_right, frontier_right]) >= 0.5,
        lengths=np.array([s.input_tokens for s in slices])[which],
    )
    notes = (
        f"assumed: every figure of the mix; the router tells right from wrong with AUC {router_auc:g} within a slice, "
        f"the verifier with {verifier_auc:g}; tiers err "
        + (
            "independently within a slice"
            if all(s.strong_right_when_weak_wrong is None for s in slices)
            else "as stated"
        ),
    )
    seconds = {tier: _seconds(terms[tier], n, seed + i) for i, tier in enumerate((cheap, frontier))}
    return Workload(
        name=name,
        cheap=cheap,
        frontier=frontier,
        seen=seen,
        choosing=_every_other(n, chance),
        cheap_s=seconds[cheap],
        frontier_s=seconds[frontier],
        router=f"assumed, AUC {router_auc:g}",
        verifier=f"assumed, AUC {verifier_auc:g}",
        labelled=False,
        slices={"slice": tuple(slices[k].name for k in which)},
        notes=notes,
    )


def posterior(prior: FloatArray, right: FloatArray, auc: float, chance: np.random.Generator) -> FloatArray:
    """Return P(right | a score of that AUC), scores drawn Normal(d, 1) where right and Normal(0, 1) where wrong."""
    from scipy.special import expit, ndtri

    d = float(np.sqrt(2) * ndtri(auc))
    z = chance.normal(size=len(right)) + d * right
    inside = np.clip(prior, 1e-9, 1 - 1e-9)
    return np.asarray(expit(np.log(inside) - np.log1p(-inside) + d * z - d * d / 2), dtype=np.float64)


def with_verifier(work: Workload, auc: float, seed: int) -> Workload:
    """Return the workload as it would be with a verifier of that AUC."""
    chance = np.random.default_rng(seed)
    after = posterior(work.seen.p_route[:, 0], work.seen.grades[:, 0], auc, chance)
    p_ok = np.column_stack([after, work.seen.p_ok[:, 1:]])
    return replace(work, seen=replace(work.seen, p_ok=p_ok), verifier=f"imagined, AUC {auc:g}")


def _exact_share(n: int, share: float, chance: np.random.Generator) -> FloatArray:
    """Return n zeros and ones in a random order, with as many ones as the share says."""
    values = np.zeros(n)
    values[: round(share * n)] = 1.0
    return chance.permutation(values)


def _usd(slices: Sequence[TrafficSlice], which: np.ndarray, terms: TierCosts) -> FloatArray:
    each = []
    for part in slices:
        sent, made = round(part.input_tokens * terms.token_ratio), round(part.output_tokens * terms.token_ratio)
        cached = int(sent * (terms.cached_share or 0.0))
        each.append(float(terms.price.cost(Usage(sent, made, cached)) * terms.batch_multiplier))
    return np.asarray(np.array(each)[which], dtype=np.float64)


def _seconds(terms: TierCosts, n: int, seed: int) -> FloatArray | None:
    if terms.latency_p50_s is None or terms.latency_p95_s is None:
        return None
    return lognormal_seconds(terms.latency_p50_s, terms.latency_p95_s, n, seed)


def _every_other(n: int, chance: np.random.Generator) -> BoolArray:
    mask = np.zeros(n, dtype=np.bool_)
    mask[chance.permutation(n)[: n // 2]] = True
    return mask
