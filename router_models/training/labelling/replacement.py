"""Which tier a new model could replace: right answers and dollars beside the other models', on prompts CERT lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.metrics import Interval, bootstrap
from router_models.pricing.call_costs import call_costs
from router_models.pricing.prices import Price
from router_models.training.labelling.new_model import Transfer
from router_models.types import FloatArray

NO_WORSE = 0.02
"""Fewer right answers than another model's, as a share of prompts, that still count as no worse."""
SENT_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST_PAIRED = 20


@dataclass(frozen=True)
class Beside:
    """Hold a new model beside another one, on the prompts that both were graded on.

    Parameters
    ----------
    model : str
        The other one.
    prompts : int
        How many both were graded on.
    right, right_new : float
        Their shares of right answers.
    difference : Interval
        New less other, paired, 95 %.
    usd, usd_new : float, optional
        Mean dollars a call; None: no price, or no tokens.
    """

    model: str
    prompts: int
    right: float
    right_new: float
    difference: Interval
    usd: float | None
    usd_new: float | None

    @property
    def verdict(self) -> str:
        """Whether the new model could take the other's place."""
        cheaper = None if self.usd is None or self.usd_new is None else self.usd_new < self.usd
        if self.difference.high < -NO_WORSE:
            return "no: it is worse"
        if self.difference.low < -NO_WORSE:
            return "not known: too few prompts to tell them apart"
        if cheaper is None:
            return "yes by quality; costs are not known"
        return "yes: no worse, and cheaper" if cheaper else "yes by quality, and dearer"


@dataclass(frozen=True)
class RoutedShare:
    """Hold what a share of prompts to the last tier brings, the hardest by the new model's router: right, dollars."""

    share: float
    right: float
    by_chance: float
    usd: float | None


def beside_others(table: OutcomeTable, name: str, prices: Mapping[str, Price], *, seed: int = 0) -> tuple[Beside, ...]:
    """Compare a new model with every other one that was graded on at least `LEAST_PAIRED` of its prompts."""
    found = []
    own, own_usd = table.grade(name), _usd(table, name, prices)
    for other in (tier for tier in table.tiers if tier != name):
        both = np.isfinite(own) & np.isfinite(table.grade(other))
        if both.sum() < LEAST_PAIRED:
            continue
        new, old, groups = own[both], table.grade(other)[both], table.groups[both]

        def difference(weights: FloatArray, less: FloatArray = new - old) -> FloatArray:
            return np.asarray(weights @ less / weights.sum(axis=1), dtype=np.float64)

        span = bootstrap(difference, len(new), seed=seed, groups=groups)
        usd = _usd(table, other, prices)
        found.append(
            Beside(
                other,
                int(both.sum()),
                float(old.mean()),
                float(new.mean()),
                span,
                _mean(usd, both),
                _mean(own_usd, both),
            )
        )
    return tuple(found)


def routed_shares(
    transfer: Transfer, train: OutcomeTable, last: str, prices: Mapping[str, Price]
) -> tuple[RoutedShare, ...]:
    """What sending the hardest prompts to the last tier would have brought, by scores out of fold."""
    new, top, scores = train.grade(transfer.model), train.grade(last), transfer.choice.best.scores
    costs = _usd(train, transfer.model, prices), _usd(train, last, prices)
    order, found = np.argsort(scores, kind="stable"), []
    for share in SENT_SHARES:
        up = np.zeros(len(train), dtype=np.bool_)
        up[order[: round(share * len(train))]] = True
        usd = None if costs[0] is None or costs[1] is None else float(np.where(up, costs[1], costs[0]).mean())
        chance = (1 - up.mean()) * new.mean() + up.mean() * top.mean()
        found.append(RoutedShare(share, float(np.where(up, top, new).mean()), float(chance), usd))
    return tuple(found)


def transfer_json(
    transfer: Transfer, beside: tuple[Beside, ...], shares: tuple[RoutedShare, ...], last: str
) -> dict[str, Any]:
    """What was measured, as plain values."""
    best = transfer.choice.best
    return {
        "model": transfer.model,
        "method": transfer.method,
        "graded": transfer.graded,
        "side_prompts": transfer.side_prompts,
        "side_models": list(transfer.side_models),
        "auc": best.auc,
        "over_length": {"value": best.advantage, "low": best.low, "high": best.high},
        "apgr": best.apgr,
        "auc_by_method": dict(transfer.by_method),
        "fault": transfer.fault,
        "doubt": transfer.doubt,
        "beside": [{**asdict(one), "verdict": one.verdict} for one in beside],
        "last_tier": last,
        "shares": [asdict(one) for one in shares],
    }


def transfer_words(
    transfer: Transfer, beside: tuple[Beside, ...], shares: tuple[RoutedShare, ...], last: str
) -> list[str]:
    """What was measured, in lines."""
    best, name = transfer.choice.best, transfer.model
    lines = [
        f"{name}: {transfer.graded} graded prompts of TRAIN, on what {len(transfer.side_models)} models' grades of "
        f"{transfer.side_prompts:,} prompts say ({transfer.method}); CERT is not read",
        f"orders its prompts, out of fold: AUC {best.auc:.3f}, {best.advantage:+.3f} ({best.low:+.3f} to "
        f"{best.high:+.3f}) over prompt length"
        + ("" if best.apgr is None else f"; APGR {best.apgr:.3f} against {last}"),
        *(
            f"beside {one.model}, {one.prompts} prompts: right {one.right_new:.1%} and {one.right:.1%}, difference "
            f"{one.difference.value:+.1%} ({one.difference.low:+.1%} to {one.difference.high:+.1%})"
            + ("" if one.usd is None or one.usd_new is None else f", ${one.usd_new:.3g} and ${one.usd:.3g} a call")
            + f". In its place: {one.verdict}"
            for one in beside
        ),
        *(
            f"{one.share:4.0%} to {last}: right {one.right:.1%}, by chance {one.by_chance:.1%}"
            + ("" if one.usd is None else f", ${one.usd:.3g} a prompt")
            for one in shares
        ),
    ]
    return [*lines, *(f"warning: {said}" for said in (transfer.doubt,) if said)]


def _usd(table: OutcomeTable, tier: str, prices: Mapping[str, Price]) -> FloatArray | None:
    """Dollars of every call, (n,), NaN where its tokens are not known; None without a price or any tokens."""
    if tier not in prices:
        return None
    known = np.isfinite(table.grade(tier))
    try:
        paid = call_costs(table.take(known), tier, prices[tier])
    except DataError:
        return None
    found = np.full(len(table), np.nan)
    found[known] = paid
    return found


def _mean(usd: FloatArray | None, rows: FloatArray | Any) -> float | None:
    if usd is None:
        return None
    value = float(np.mean(usd[rows]))
    return value if np.isfinite(value) else None
