"""Experiment 12: files in order of category, and files with copies; neither may prove what independent draws do not.

A true drop exactly at the margin, and a true risk exactly at ε, so that every certificate is false. The negative
controls are what was done before: bets placed in the order of the file, and every copy counted as evidence.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.data.groups import grouped_by
from router_models.data.table import OutcomeTable
from router_models.errors import NotCertifiedError
from router_models.metrics import bootstrap
from router_models.planning.patterns import RiskBudget, operate, patterns_of
from router_models.planning.workload import Workload
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import Guarantee, certify_policy
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.paired import log_wealth
from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid
from router_models.training.splits import split_outcomes
from router_models.types import OperatingPoint, Prompts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIERS = ("cheap", "frontier")
DELTA, MARGIN, N = 0.1, 0.05, 600
PLACED = {"cheap": OperatingPoint(0.0, 0.0), "frontier": OperatingPoint(np.inf, -np.inf)}
TERMS = CertificateTerms(0.5, DELTA, "programmatic", NOW, NOW + timedelta(days=1))


def by_category(rng, n: int, margin: float) -> CascadeEvidence:
    """First the prompts on which the cheap tier gains, then those on which it loses; on average it loses `margin`."""
    u, first = rng.random(n), np.arange(n) < n // 2
    moved = u < np.where(first, 0.2, 0.2 + 2 * margin)
    both = ~moved & (u < 0.8)
    right = np.column_stack([both | (moved & first), both | (moved & ~first)])
    return CascadeEvidence.of(TIERS, np.full((n, 1), 0.5), np.full((n, 2), 0.5), [0.1, 1.0], right)


def certifies(tune, cert, risk) -> bool:
    """Whether anything is answered by the cheap tier under a certificate."""
    try:
        found = certify_policy(tune, cert, Guarantee(risk, max_drop=MARGIN), TERMS, PLACED)
    except NotCertifiedError:
        return False
    return "cheap" in found.points and found.points["cheap"].route_at < np.inf


def plans(tune, cert) -> bool:
    """Whether `plan` certifies a pattern on the same evidence."""
    columns = ("p_route", "p_ok", "cost_usd", "right")
    seen = CascadeEvidence.of(TIERS, *(np.vstack([getattr(part, c) for part in (tune, cert)]) for c in columns))
    choosing = np.arange(len(seen)) < len(tune)
    work = Workload("w", *TIERS, seen, choosing, None, None, "surface", None, labelled=True)
    budget = RiskBudget(0.5, DELTA, MARGIN)
    return any(found.certified for found in operate(work, patterns_of(work, budget, None), budget, NOW))


@pytest.mark.parametrize("what", ["accepted", "answered", "plan"])
def test_a_file_sorted_by_category_proves_no_more_than_a_shuffled_one(what, size, allowed, measured):
    runs = size(100, 400)
    rng = np.random.default_rng(12)
    broken = in_file_order = 0
    for _ in range(runs):
        tune, cert = by_category(rng, 300, 0.0), by_category(rng, N, MARGIN)
        broken += plans(tune, cert) if what == "plan" else certifies(tune, cert, what)
        change = cert.grades[:, 0] - cert.grades[:, 1]
        in_file_order += log_wealth(change, MARGIN).max() >= -np.log(DELTA)
    limit = allowed(runs, DELTA)
    measured(f"{what}, B={runs}: broken {broken} (≤ {limit}), betting in the order of the file {in_file_order}")
    assert broken <= limit
    assert in_file_order > limit, "the negative control must fail"


def with_copies(rng, groups: int, copies: int, epsilon: float, texts) -> OutcomeTable:
    """Every prompt, or every user's requests, `copies` times with one label; right with probability 1 - ε."""
    right = np.repeat((rng.random(groups) >= epsilon).astype(np.float64), copies)
    prompts, users = texts(groups, copies)
    number = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
    ids = np.array([number[text] for text in prompts]) + int(rng.integers(2**40))
    return OutcomeTable(
        Prompts(tuple(prompts), None, {"user": tuple(users)}), tuple(prompts), TIERS,
        {"cheap": right, "frontier": np.ones(len(right))}, ids, latency_s={"cheap": rng.random(len(right))},
    )  # fmt: skip


def equal_prompts(groups: int, copies: int):
    return [f"p{i}" for i in range(groups) for _ in range(copies)], [""] * (groups * copies)


def of_one_user(groups: int, copies: int):
    return (
        [f"p{i} {k}" for i in range(groups) for k in range(copies)],
        [f"u{i}" for i in range(groups) for _ in range(copies)],
    )


def falsely_certified(rng, tune_right, cert_right, epsilon) -> bool:
    """The tight null: scores say nothing, and every answer is wrong with probability ε."""
    tune, cert = (Labelled.of(rng.random(len(right)), 1 - right) for right in (tune_right, cert_right))
    path = anchored_path(tune, cert, quantile_grid(tune.scores), epsilon=epsilon, level=DELTA)
    return bool(path.rejected.any())


@pytest.mark.parametrize(("texts", "group_by"), [(equal_prompts, None), (of_one_user, "user")])
def test_copies_of_a_prompt_and_requests_of_a_user_are_no_further_evidence(texts, group_by, size, allowed, measured):
    runs, epsilon, copies = size(100, 1000), 0.2, 5
    rng = np.random.default_rng(13)
    broken = every_row = 0
    for _ in range(runs):
        table = with_copies(rng, 250, copies, epsilon, texts)
        splits = split_outcomes(table, TIERS, 0, group_by)
        tune, cert = splits.tune.grade("cheap"), splits.cert.grade("cheap")
        broken += falsely_certified(rng, tune, cert, epsilon)
        inside = np.isin(grouped_by(table, group_by).groups, splits.cert.groups)
        every_row += falsely_certified(rng, tune, table.take(inside).grade("cheap"), epsilon)
    limit = allowed(runs, DELTA)
    measured(f"{copies} rows a group, B={runs}: broken {broken} (≤ {limit}), every row counted {every_row}")
    assert broken <= limit
    assert every_row > limit, "the negative control must fail"


def test_a_bootstrap_of_groups_covers_and_one_of_rows_does_not(size, measured):
    runs, n, copies = size(200, 1000), 120, 2
    rng = np.random.default_rng(14)
    member = np.repeat(np.arange(n), copies)
    covered = of_rows = 0
    for seed in range(runs):
        values = (rng.random(n) < 0.7).astype(np.float64)[member]

        def mean(weights, values=values):
            return weights @ values / weights.sum(axis=1)

        wide = bootstrap(mean, len(values), draws=300, seed=seed, groups=member)
        narrow = bootstrap(mean, len(values), draws=300, seed=seed)
        covered += wide.low <= 0.7 <= wide.high
        of_rows += narrow.low <= 0.7 <= narrow.high
    measured(
        f"{copies} copies, B={runs}: 95 % intervals cover {covered / runs:.3f} by groups, {of_rows / runs:.3f} by rows"
    )
    assert covered / runs > 0.91
    assert of_rows / runs < 0.90, "the negative control must fail"
