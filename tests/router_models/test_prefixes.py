from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.errors import DataError, NotCertifiedError
from router_models.policy import Policy
from router_models.prefixes import PrefixCase, certify_prefix
from router_models.routers import ConstantRouter, LengthRouter
from router_models.types import PREFIX, Action, Answers, Completion, Decision, FloatArray, OperatingPoint, Query
from router_models.verifiers import NonEmptyVerifier
from router_models.version import RouterVersion, Stage

MADE = datetime(2026, 1, 1, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "epsilon": 0.1,
    "delta": 0.1,
    "binds": {"models": "abc"},
    "label_source": "programmatic",
    "made_at": MADE,
    "expires_at": MADE + timedelta(days=90),
}


class ByLength(NonEmptyVerifier):
    """Long beginnings are good ones."""

    def predict(self, X: Answers) -> FloatArray:
        return np.array([min(len(text) / 100.0, 1.0) for text in X.texts])


def version() -> RouterVersion:
    points = {"cheap": OperatingPoint(0.5, 0.5)}
    return RouterVersion(
        Policy(("cheap", "frontier"), points), {"cheap": Stage(LengthRouter(), None, ByLength(), None)}
    )


def cases(n: int, seed: int, right_above: float = 0.4) -> list[PrefixCase]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 100, n)
    wrong = np.where(lengths / 100 > right_above, rng.random(n) < 0.02, True)
    return [
        PrefixCase(Query.from_prompt(f"q{seed}.{i}"), Completion("x" * int(length)), bool(bad))
        for i, (length, bad) in enumerate(zip(lengths, wrong, strict=True))
    ]


def judged(of: RouterVersion, chars: int, finish_reason: str = PREFIX) -> Action:
    completion = Completion("x" * chars, finish_reason)
    return of.judge(Query.from_prompt("why?"), completion, Decision("cheap", "test")).action


def test_a_prefix_is_accepted_at_its_own_certified_threshold() -> None:
    made = certify_prefix(version(), "cheap", 16, cases(400, 1), cases(600, 2), **TERMS)
    point = made.policy.prefixes["cheap"]
    assert point.tokens == 16
    assert 0.3 < point.accept_at < 0.6
    assert judged(made, 95) is Action.ACCEPTED
    assert judged(made, 5) is Action.ESCALATED
    assert made.prefix_certificates["cheap"].binds == TERMS["binds"]


def test_a_whole_answer_is_still_judged_at_the_versions_own() -> None:
    made = certify_prefix(version(), "cheap", 16, cases(400, 1), cases(600, 2), **TERMS)
    assert judged(made, 49, "stop") is Action.ESCALATED
    assert judged(made, 51, "stop") is Action.ACCEPTED


def test_without_a_prefix_point_a_prefix_is_never_accepted() -> None:
    assert judged(version(), 99) is Action.ESCALATED


def test_what_cannot_be_proved_is_not_certified() -> None:
    with pytest.raises(NotCertifiedError):
        certify_prefix(version(), "cheap", 16, cases(400, 1, 2.0), cases(600, 2, 2.0), **TERMS)


@pytest.mark.parametrize(("tier", "tokens"), [("frontier", 16), ("cheap", 0)])
def test_a_prefix_needs_a_judged_tier_and_a_length(tier: str, tokens: int) -> None:
    with pytest.raises(DataError):
        certify_prefix(version(), tier, tokens, cases(40, 1), cases(40, 2), **TERMS)


def test_a_saved_prefix_point_is_loaded_with_its_certificate(tmp_path: Path) -> None:
    made = certify_prefix(version(), "cheap", 16, cases(400, 1), cases(600, 2), **TERMS)
    stages = {"cheap": Stage(ConstantRouter(), None, NonEmptyVerifier(), None)}
    replace(made, stages=stages).save(tmp_path / "v")
    loaded = RouterVersion.load(tmp_path / "v")
    assert loaded.policy == made.policy
    assert loaded.prefix_certificates == made.prefix_certificates
