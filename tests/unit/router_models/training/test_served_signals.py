"""What a verifier is shown when a version is certified is what it is shown when that version serves."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.data.prefixes import prefix_of
from router_models.errors import NotCertifiedError
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.planning.simulation.itineraries import version_itineraries
from router_models.pricing.prices import Price
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import certify_candidate
from router_models.training.prefix import prefixes_of
from router_models.training.splits import split_outcomes
from router_models.types import Answers, Completion, Decision, FloatArray, OperatingPoint, Outcome, Query, Usage
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("small", "medium", "large")
PRICES = {tier: Price(Decimal(10**i), Decimal(10**i)) for i, tier in enumerate(TIERS)}
LOGPROBS = (-0.1, -0.2, -0.3, -0.1)
WORDS = ("So", " it", " is", ".")


class Recording(NonEmptyVerifier):
    """Accepts every answer and remembers which signals came with it."""

    def __init__(self) -> None:
        self.shown: set[frozenset[str]] = set()

    def predict(self, X: Answers) -> FloatArray:
        self.shown.add(frozenset(X.signals))
        return super().predict(X)


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    """Outcomes with more signals than any request brings: a confidence and a reward beside the token logprobs."""
    outcomes = [
        Outcome(
            prompt_id(text), text, tier, "So it is.", float(i % 3 > 0), Usage(20, 4), 0.1, "stop",
            logprob_summary(LOGPROBS), {}, WORDS, LOGPROBS,
        )
        for i in range(200)
        for text in [f"What is {i} plus {'one ' * (i % 7)}?"]
        for tier in TIERS
    ]  # fmt: skip
    made = table_of(parse_columns(outcomes_to_frame(outcomes)))
    extra = {f"{tier}|{name}": np.ones(len(made)) for tier in TIERS for name in ("max_token_confidence", "reward")}
    return replace(made, confidences={**made.confidences, **extra})


def version_of(tiers: tuple[str, ...]) -> tuple[RouterVersion, dict[str, Recording]]:
    verifiers = {tier: Recording() for tier in tiers}
    stages = {
        tier: Stage(LengthRouter() if tier != tiers[-1] else None, None, verifiers[tier], None) for tier in tiers
    }
    points = {tier: OperatingPoint(0.0, 0.5) for tier in tiers[:-1]} | {
        tiers[-1]: OperatingPoint(np.inf, -np.inf, 0.1)
    }
    return RouterVersion(Policy(tiers, points), stages), verifiers


def certified(version: RouterVersion, table: OutcomeTable) -> None:
    settings = Settings(version.policy.tiers, PRICES)
    splits = split_outcomes(table, settings.tiers, 0)
    with contextlib.suppress(NotCertifiedError):
        certify_candidate(Candidate(version, "", {}, {}), splits, settings, NOW)


def replayed(version: RouterVersion, table: OutcomeTable) -> None:
    version_itineraries(version, table.only(*version.policy.tiers))


@pytest.mark.parametrize("offline", [certified, replayed])
@pytest.mark.parametrize("tiers", [("small", "large"), TIERS], ids=len)
def test_offline_and_served_verifiers_see_the_same_signals(
    tiers: tuple[str, ...], offline: Callable[[RouterVersion, OutcomeTable], None], table: OutcomeTable
) -> None:
    version, verifiers = version_of(tiers)
    offline(version, table)
    seen = {tier: set(verifier.shown) for tier, verifier in verifiers.items()}
    assert all(seen.values()), "every tier's verifier was asked"
    query = Query.from_prompt(table.prompts.texts[0])
    decision = version.decide(query)
    for tier, verifier in verifiers.items():
        verifier.shown.clear()
        version.judge(query, Completion("So it is.", token_logprobs=LOGPROBS), replace(decision, tier=tier))
        assert verifier.shown == seen[tier]


def test_a_verifier_of_first_tokens_is_shown_their_logprobs_alone_offline_and_served(table: OutcomeTable) -> None:
    version, _ = version_of(("small", "large"))
    verifier = Recording()
    prefixed = replace(version, prefix_stages={"small": Stage(None, None, verifier, None)})
    begun = prefix_of(WORDS, LOGPROBS, 2)
    assert begun is not None
    prefixed.judge(Query.from_prompt("What is one?"), begun, Decision("small", "tried", 0.9))
    offline = frozenset(prefixes_of(table, "small", 2).answers.signals)
    assert verifier.shown == {offline} == {frozenset(LOGPROB_NAMES)}
