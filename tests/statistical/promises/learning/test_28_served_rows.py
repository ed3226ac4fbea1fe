"""Experiment 28: outcomes of served traffic. A draw of which every prompt has its row certifies as a random one does.

The tight null: scores say nothing, and every answer harms with probability ε, so that every certificate is false. The
version that served accepts right answers more often than wrong ones. Negative control: rows of what it accepted, which
were graded, taken for a random sample.
"""

from collections.abc import Callable
from decimal import Decimal

import numpy as np

from router_models.data.outcomes import OutcomeTable, group_duplicates
from router_models.data.starter import Task
from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid
from router_models.training.splits import split_outcomes
from router_models.types import Call, DecisionRecord, Prompts, Usage
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.learning.retraining.selection import Selection, is_drawn, selection_of
from serve_graph.learning.retraining.served_answers import ServedDecision
from serve_graph.learning.retraining.served_prompts import ServedPrompt, served_prompts
from serve_graph.records.feedback import Feedback

TIERS = ("cheap", "frontier")
DELTA, EPSILON, N = 0.1, 0.1, 600
BESIDE = {tier: [{"tier": tier, "answer": "", "usage": [1, 1, 0]}] for tier in TIERS}


def traffic(rng: np.random.Generator, rates: dict[str, float], risk: float = EPSILON) -> list[ServedDecision]:
    """N requests that a version tried on the cheap tier; what it accepts is right more often; judged by a hash."""
    wrong = rng.random(N) < risk
    accepted = rng.random(N) < np.where(wrong, 0.3, 0.9)
    return [
        one_decision(f"{rng.integers(2**62)}", "accepted" if a else "escalated", bool(w), rates)
        for w, a in zip(wrong, accepted, strict=True)
    ]


def one_decision(name: str, route: str, wrong: bool, rates: dict[str, float]) -> ServedDecision:
    tier, rate = "cheap" if route == "accepted" else "frontier", rates[route]
    evidence = {"answer": ""} | ({"beside": BESIDE["cheap"]} if route == "escalated" else {})
    record = DecisionRecord(
        name, "2026-01-01", "auto", tier, route, "router/1", 200, False, "", 1, "", None, None, None, None,
        (Call(tier, Usage(1, 1), 0.1, Decimal(0)),), Decimal(0), 0.1, evidence=evidence, prompt=name,
    )  # fmt: skip
    labels: tuple[Feedback, ...] = ()
    if up_for_labelling(name, rate):
        detail = {"verdict": "right", "beside": BESIDE["frontier"], "cheap_right": not wrong}
        right = float(not wrong) if route == "accepted" else 1.0
        labels = (
            Feedback(name, "label", "judge:m", "", right, last_tier_right=True, probability=rate, detail=detail),
        )
    return ServedDecision(record, Task(name, f"p {name}", "", 0, "en", "", {}, "", None), "frontier", labels)


def found(decisions: list[ServedDecision], rates: dict[str, float]) -> tuple[list[ServedPrompt], Selection]:
    served = served_prompts(decisions, TIERS, 1.0)
    return served, selection_of(served, TIERS, [1.0, min(filter(None, rates.values()))])


def table_of(served: list[ServedPrompt], drawn: list[str]) -> OutcomeTable:
    texts = tuple(one.first.task.prompt for one in served)
    grades = {tier: np.array([one.grades[tier] for one in served]) for tier in TIERS}
    return OutcomeTable(Prompts(texts, None, {"drawn": tuple(drawn)}), texts, TIERS, grades, group_duplicates(texts))


def falsely_certified(rng: np.random.Generator, served: list[ServedPrompt], drawn: list[str]) -> bool:
    splits = split_outcomes(table_of(served, drawn), TIERS, 0)
    if not len(splits.cert):
        return False
    tune, cert = (Labelled.of(rng.random(len(part)), 1 - part.grade("cheap")) for part in (splits.tune, splits.cert))
    return bool(anchored_path(tune, cert, quantile_grid(tune.scores), epsilon=EPSILON, level=DELTA).rejected.any())


def test_a_whole_draw_keeps_the_bound_and_what_the_version_chose_breaks_it(
    size: Callable[[int, int], int], allowed: Callable[[int, float], int], measured: Callable[[str], None]
):
    runs, rng = size(15, 1000), np.random.default_rng(26)
    broken = chosen = marked = held = 0
    for _ in range(runs):
        rates = {"accepted": 0.9, "escalated": 0.6}
        served, selection = found(traffic(rng, rates), rates)
        whole = [one for one in served if one.is_whole(TIERS)]
        held += selection.draw.holds
        drawn = ["yes" if is_drawn(one, selection.draw) else "no" for one in whole]
        broken += falsely_certified(rng, whole, drawn)
        rates = {"accepted": 0.6, "escalated": 0.0}
        served, selection = found(traffic(rng, rates), rates)
        whole = [one for one in served if one.is_whole(TIERS)]
        drawn = ["yes" if is_drawn(one, selection.draw) else "no" for one in whole]
        marked += falsely_certified(rng, whole, drawn)
        chosen += falsely_certified(rng, whole, [""] * len(whole))
    limit = allowed(runs, DELTA)
    measured(f"B={runs}: broken {broken} (≤ {limit}), rows of accepted answers marked {marked}, as random {chosen}")
    assert held == runs
    assert broken <= limit
    assert marked == 0
    assert chosen > limit, "the negative control must fail"


def test_weighted_rows_stand_for_the_traffic_and_unweighted_ones_do_not(
    size: Callable[[int, int], int], measured: Callable[[str], None]
):
    """The share of wrong cheap answers, from rows of which accepted ones were judged four times as often."""
    runs, rng, rates = size(15, 1000), np.random.default_rng(27), {"accepted": 0.8, "escalated": 0.2}
    plain, weighted = [], []
    for _ in range(runs):
        served, selection = found(traffic(rng, rates, risk=0.3), rates)
        weights = selection.correction.weights
        assert weights is not None
        rows = [one for one in served if one.is_whole(TIERS)]
        wrong = np.array([1 - one.grades["cheap"] for one in rows])
        plain.append(wrong.mean())
        weighted.append(np.average(wrong, weights=[weights[one.first.task.prompt_id] for one in rows]))
    off, off_plain = (abs(np.mean(found_) - 0.3) / (np.std(found_) / np.sqrt(runs)) for found_ in (weighted, plain))
    measured(f"B={runs}, true .300: weighted {np.mean(weighted):.3f}, unweighted {np.mean(plain):.3f}")
    assert off < 4
    assert off_plain > 10, "the negative control must fail"
