"""Find the point at which P(weak wrong | sent to weak) ≤ ε is certified for a router."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from router_models.data.outcomes import OutcomeTable, split
from router_models.errors import DataError, NotCertifiedError
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.risk_control.certificates.risks import check_acceptable, check_budget
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold
from router_models.types import BoolArray, FloatArray
from router_models.types.label_sources import LabelSource


@dataclass(frozen=True, slots=True)
class PromiseTerms:
    """Hold the costs and the risk budget at which figures are computed.

    Parameters
    ----------
    weak_cost, strong_cost : array of float, (n,)
        The cost of each prompt at either tier.
    usd : bool
        Whether costs are dollars; False = shares of strong calls (weak 0, strong 1).
    epsilon, delta : float
        The certificate's risk budget and 1 - confidence, in (0, 1).
    acceptable : float, optional
        Grades from this on count as right.
    """

    weak_cost: FloatArray
    strong_cost: FloatArray
    usd: bool
    epsilon: float
    delta: float
    acceptable: float | None = None

    def __post_init__(self) -> None:
        check_budget(self.epsilon, self.delta)
        check_acceptable(self.acceptable)


@dataclass(frozen=True, slots=True)
class CertifiedPoint:
    """Hold what an anchored certificate of P(weak wrong | sent to weak) ≤ ε permits a router, on CERT prompts.

    Parameters
    ----------
    threshold : float, optional
        None = nothing can be certified; the figures are then those of always-strong.
    why : str
        The evidence, or why there is none.
    strong_share : float
        The share sent to strong, in [0, 1].
    cost, cost_of_strong : float
        The mean cost of a prompt, and always-strong's.
    quality : float
        The mean grade.
    pgr : float
        The performance gap recovered.
    """

    threshold: float | None
    why: str
    strong_share: float
    cost: float
    cost_of_strong: float
    quality: float
    pgr: float


def certified_point(
    scores: FloatArray,
    weak: FloatArray,
    strong: FloatArray,
    terms: PromiseTerms,
    cert_rows: BoolArray,
    now: datetime,
    seed: int,
    covered: BoolArray | None = None,
) -> CertifiedPoint:
    """Calibrate on the other rows, certify on `cert_rows`, and compute cost and quality of the policy there.

    Rows that are not `covered` by their conditions are no evidence, and are answered by strong.
    """
    right = weak if terms.acceptable is None else (weak >= terms.acceptable).astype(np.float64)
    inside = np.ones(len(weak), dtype=np.bool_) if covered is None else covered
    tune, cert = ~cert_rows & inside, cert_rows & inside
    threshold: float | None = None
    p = scores
    try:
        if not np.isin(right, (0.0, 1.0)).all():
            raise NotCertifiedError("grades lie between 0 and 1: say from which grade on an answer is acceptable")
        p = choose_calibrator(np.clip(scores, 0, 1)[tune], right[tune], seed=seed).predict(np.clip(scores, 0, 1))
        certificate = certify_threshold(
            Labelled.of(p[tune], 1 - right[tune]),
            Labelled.of(p[cert], 1 - right[cert]),
            CertificateTerms(terms.epsilon, terms.delta, LabelSource.PROGRAMMATIC, now, now + timedelta(days=1)),
        )
        threshold = certificate.threshold_for()
        why = f"{certificate.errors} of {certificate.accepted_n} sent to weak were wrong"
    except (NotCertifiedError, DataError) as error:
        why = str(error)
    kept = inside[cert_rows] & (p[cert_rows] >= (np.inf if threshold is None else threshold))
    cost = np.where(kept, terms.weak_cost[cert_rows], terms.strong_cost[cert_rows])
    quality = float(np.where(kept, weak[cert_rows], strong[cert_rows]).mean())
    low, high = float(weak[cert_rows].mean()), float(strong[cert_rows].mean())
    return CertifiedPoint(
        threshold=threshold,
        why=why,
        strong_share=float((~kept).mean()),
        cost=float(cost.mean()),
        cost_of_strong=float(terms.strong_cost[cert_rows].mean()),
        quality=quality,
        pgr=(quality - low) / (high - low) if high > low else float("nan"),
    )


def certification_rows(table: OutcomeTable, seed: int) -> BoolArray:
    """Return which prompts certify; the others calibrate and place the anchor. Duplicates stay together."""
    inside = set(split(table, {"tune": 0.4, "cert": 0.6}, seed)["cert"].groups.tolist())
    return np.array([int(group) in inside for group in table.groups], dtype=np.bool_)
