"""Experiment 15: what the last tier alone would have cost, estimated from the cheap answers' lengths.

On accepted prompts the last tier says twice as much as the cheap one, on the others half: the ratio among the accepted
says so, with an interval that covers. The negative control is what was done before: as long as the cheap one.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from router_models.data.formats import parse_columns
from router_models.data.outcomes import table_of
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.evidence import CascadeEvidence
from router_models.training.evidence import token_ratios
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

TIERS = ("cheap", "frontier")
TRUE_RATIO = 2.0


def answers(rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, and both tiers' completion tokens: on accepted prompts the last tier says twice as much, else half."""
    scores = rng.random(n)
    cheap = rng.geometric(1 / 60, n).astype(float)
    frontier = cheap * np.where(scores >= 0.5, TRUE_RATIO, 0.5) * rng.gamma(4, 1 / 4, n)
    return scores, cheap, frontier


def test_the_ratio_among_accepted_answers_covers_the_true_one(size, measured):
    runs, n = size(60, 1000), 400
    rng = np.random.default_rng(15)
    version = RouterVersion(
        Policy(TIERS, {"cheap": OperatingPoint(0.0, 0.5)}),
        {"cheap": Stage(ConstantRouter(0.5), None, NonEmptyVerifier(), None)},
    )
    frame = pd.DataFrame({"prompt": [f"q{i}" for i in range(n)], "cheap": 1, "frontier": 1})
    empty = table_of(parse_columns(frame, TIERS))
    covered = as_long = of_all = 0
    for _ in range(runs):
        scores, cheap, frontier = answers(rng, n)
        table = replace(empty, completion_tokens={"cheap": cheap, "frontier": frontier})
        p_ok = np.column_stack([scores, np.ones(n)])
        seen = CascadeEvidence.of(TIERS, np.full((n, 1), 0.5), p_ok, [0.1, 1.0], np.ones((n, 2)))
        _, low, high = token_ratios(table, version, seen)["cheap"]
        covered += low <= TRUE_RATIO <= high
        as_long += low <= 1.0 <= high
        of_all += low <= frontier.sum() / cheap.sum() <= high
    measured(
        f"B={runs}: 95 % intervals cover {covered / runs:.3f}; hold 1 (as long) {as_long}, all prompts' ratio {of_all}"
    )
    assert covered / runs > 0.85
    assert as_long / runs < 0.5, "the negative control must fail"
    assert of_all / runs < 0.5, "the negative control must fail"
