"""Experiment 11: three tiers' thresholds, promised slice by slice; certified in the whole they break hard slices."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.estimators.calibrators.scores import PlattCalibrator
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint import certify_joint
from router_models.risk_control.joint_path import PathBudget, follow
from router_models.risk_control.ladder.tuning import pareto_path, predict

DELTA = 0.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("easy", "fair", "hard", "hardest")


class Population:
    """Four slices of growing difficulty; the verifiers see half of what makes a slice hard."""

    def __init__(self) -> None:
        rng = np.random.default_rng(29)
        n = 12_000
        self.which = rng.integers(0, 4, n)
        hard = np.array([-0.4, 0.0, 0.5, 1.3])[self.which][:, None]
        logits = np.array([1.2, 2.2, 3.4]) - hard - rng.normal(0, 1.2, n)[:, None]
        self.right = rng.random((n, 3)) < 1 / (1 + np.exp(-logits))
        seen = 0.6 * (logits + 0.5 * hard) + 1.1 * (self.right - 0.5)
        self.ok = 1 / (1 + np.exp(-(seen + rng.normal(0.3, 0.9, (n, 3)))))
        self.route = 1 / (1 + np.exp(-(0.5 * logits[:, :2] + rng.normal(0, 0.8, (n, 2)))))

    def calibrated_on(self, rows: np.ndarray) -> CascadeEvidence:
        def columns(scores: np.ndarray) -> np.ndarray:
            fitted = [PlattCalibrator().fit(s[rows], self.right[rows, i]) for i, s in enumerate(scores.T)]
            return np.column_stack([c.predict(s) for c, s in zip(fitted, scores.T, strict=True)])

        ladder = CascadeEvidence.of(
            ("small", "medium", "large"), columns(self.route), columns(self.ok), (1.0, 6.0, 30.0), self.right
        )
        return ladder.cut([NAMES[i] for i in self.which])


@pytest.fixture(scope="module")
def population() -> Population:
    return Population()


@dataclass(frozen=True)
class Truth:
    """What thresholds really do in one slice; `saved` is a share of always-top's cost in all slices."""

    risk: float
    silent: float
    saved: float

    def keeps(self, epsilon: float, abstain: float) -> bool:
        return self.risk <= epsilon and self.silent <= abstain


def truth(parts: dict[str, CascadeEvidence], thresholds: Thresholds) -> dict[str, Truth]:
    found = {}
    paid = sum(part.cost_usd[:, -1].sum() for part in parts.values())
    for name, part in parts.items():
        replayed = replay_policy(part, thresholds)
        answered = int((~replayed.abstained).sum())
        risk = replayed.wrong(part.right).sum() / max(answered, 1)
        saved = (part.cost_usd[:, -1].sum() - replayed.cost_usd.sum()) / paid
        found[name] = Truth(float(risk), 1 - answered / len(part), float(saved))
    return found


@pytest.mark.parametrize(("epsilon", "abstain", "quick", "useful"), [(0.15, 0.0, 30, 0.7), (0.1, 0.05, 20, 0.6)])
def test_no_certified_slice_of_a_ladder_breaks_its_promise(
    population, epsilon, abstain, quick, useful, size, allowed, measured
):
    runs, n = size(quick, 500), len(population.right)
    terms = CertificateTerms(epsilon, DELTA, "programmatic", NOW, NOW + timedelta(90))
    rng = np.random.default_rng(31)
    broken = whole_broken = none = 0
    held, saved, could_save = [], [], []
    for _ in range(runs):
        rows, fresh = rng.integers(0, n, 400), rng.integers(0, n, 2000)
        ladder = population.calibrated_on(rows)
        parts = {name: ladder.only(name) for name in NAMES}
        tune, cert = ladder.take(rows), ladder.take(fresh)
        known = [truth(parts, c.thresholds).values() for c in pareto_path(tune, abstain_share=abstain)]
        could_save.append(max(sum(t.saved for t in slices if t.keeps(epsilon, abstain)) for slices in known))
        try:
            found = certify_joint(tune, cert, terms, abstain_share=abstain)
            true = truth(parts, found.chosen.thresholds)
            certified = [true[name] for name in NAMES if found.certificate.covers(name)]
            broken += not all(t.keeps(epsilon, abstain) for t in certified)
            held.append(len(certified))
            saved.append(sum(t.saved for t in certified))
        except NotCertifiedError:
            none += 1
            held.append(0)
            saved.append(0.0)
        try:
            whole = certify_joint(replace(tune, slices=None), replace(cert, slices=None), terms, abstain_share=abstain)
        except NotCertifiedError:
            continue
        whole_broken += not all(t.keeps(epsilon, abstain) for t in truth(parts, whole.chosen.thresholds).values())
    limit = allowed(runs, DELTA)
    measured(
        f"ε={epsilon} a={abstain} B={runs}: broken {broken} (≤ {limit}), without slices {whole_broken}, none "
        f"certified {none}; slices certified {np.mean(held):.1f} of 4, saved {np.mean(saved):.0%} of the cost, "
        f"{np.mean(could_save):.0%} knowing all labels"
    )
    assert broken <= limit
    assert whole_broken > limit, "the negative control must fail"
    assert np.mean(saved) >= useful * np.mean(could_save), "a certificate that saves little is of no use"


def test_slices_exactly_at_the_budget_are_rarely_certified_however_many_configurations_there_are(
    size, allowed, measured
):
    """TUNE believes every tier; in truth each errs on exactly ε, so whatever is certified is certified wrongly."""
    runs, tiers, n, epsilon = size(150, 2000), tuple(f"tier-{i}" for i in range(8)), 300, 0.15
    rng, k = np.random.default_rng(37), len(tiers)
    never = (-np.inf,) * k
    always = [
        Thresholds(tuple(-np.inf if i == j else np.inf for i in range(k - 1)), never[:-1], never) for j in range(k)
    ]
    columns = (tiers, np.full((n, k - 1), 0.5), np.full((n, k), 0.95), tuple(range(1, k + 1)))
    tune = CascadeEvidence.of(*columns, np.ones((n, k)))
    proposed = [predict(tune, thresholds) for thresholds in always]
    budget = PathBudget(epsilon, DELTA / 2)
    broken = any_small = 0
    for _ in range(runs):
        certs = [replace(tune, right=rng.random((n, k)) >= epsilon) for _ in ("a", "b")]
        paths = [follow(proposed, tune, cert, budget, "at the budget") for cert in certs]
        broken += any(path.rejected.any() for path in paths)
        any_small += any((path.p_values <= budget.level).any() for path in paths)
    limit = allowed(runs, DELTA)
    measured(f"ε={epsilon} B={runs}: broken {broken} (≤ {limit}); without a sequence, or begun by CERT, {any_small}")
    assert broken <= limit
    assert any_small > limit, "the negative control must fail"
