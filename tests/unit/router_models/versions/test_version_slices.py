"""A version whose thresholds were certified together in some slices: decided, judged, stored and replayed alike."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router_models.data.formats import parse_columns
from router_models.data.outcomes import table_of
from router_models.errors import ArtifactError
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.planning.simulation.itineraries import Itinerary, version_itineraries
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ANSWERED_RISK
from router_models.types import PREFIX_FINISH, Action, Completion, Decision, OperatingPoint, Query
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

TIERS = ("small", "medium", "large")
MADE = datetime(2026, 1, 5, tzinfo=UTC)
HELD = Promise(ANSWERED_RISK, 0.1, 0.05, 100, 2, 0.06, -math.inf)
OPEN = Promise(ANSWERED_RISK, 0.1, 0.05, 0, 0, 1.0)


def version() -> RouterVersion:
    """Short prompts try small, longer ones medium; whoever says nothing is not believed, the last tier abstains."""
    stages = {tier: Stage(LengthRouter(), None, NonEmptyVerifier(), None) for tier in TIERS[:-1]}
    stages["large"] = Stage(None, None, NonEmptyVerifier(), None)
    points = {
        "small": OperatingPoint(0.9, 0.5, None),
        "medium": OperatingPoint(0.5, 0.5, 0.2),
        "large": OperatingPoint(math.inf, -math.inf, 0.5),
    }
    certificate = Certificate(
        what=ANSWERED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=200, accepted_n=100, errors=2, upper=0.06,
        threshold=None, label_source=LabelSource.HUMAN, made_at=MADE, expires_at=MADE.replace(year=2027), binds={},
        slices={"en": HELD, "de": OPEN},
    )  # fmt: skip
    return RouterVersion(Policy(TIERS, points), stages, certificate, slicer="language")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> RouterVersion:
    folder: Path = tmp_path_factory.mktemp("version") / "v"
    version().save(folder)
    return RouterVersion.load(folder)


texts = st.one_of(st.text(max_size=30), st.integers(0, 400).map("a".__mul__))
languages = st.sampled_from(["en", "de", "it", ""])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, languages, st.sampled_from(["", "an answer"]), st.sampled_from([*TIERS, "none"]))
def test_a_version_loaded_from_disk_decides_and_judges_the_same(
    loaded: RouterVersion, text: str, language: str, answer: str, brought: str
) -> None:
    query, made = Query.from_prompt(text, language=language), version()
    decision = made.decide(query)
    assert loaded.decide(query) == decision
    tried = decision if brought == "none" else replace(decision, tier=brought)
    assert loaded.judge(query, Completion(answer), tried) == made.judge(query, Completion(answer), tried)


def test_a_slicer_that_this_release_does_not_know_is_named_when_the_version_is_loaded(tmp_path: Path) -> None:
    replace(version(), slicer="colour").save(tmp_path / "v")
    with pytest.raises(ArtifactError, match="sliced by 'colour'"):
        RouterVersion.load(tmp_path / "v")


@settings(deadline=None)
@given(
    texts, st.sampled_from(["de", "it"]), st.sampled_from(["", "an answer"]), st.sampled_from(["stop", PREFIX_FINISH])
)
def test_where_nothing_is_promised_the_last_tier_answers_and_no_cheap_answer_is_ever_shown(
    text: str, language: str, answer: str, finish: str
) -> None:
    made, query = version(), Query.from_prompt(text, language=language)
    decision = made.decide(query)
    assert decision.tier == "large"
    assert f"the slice language={language} is not certified" in decision.reason
    assert decision.p_cheap_ok is not None
    verdict = made.judge(query, Completion(answer), decision)
    assert verdict.action is Action.ACCEPTED, "the last tier is not judged, and so never abstains"
    for tier in ("small", "medium"):  # whatever brought an answer of theirs
        held = made.judge(query, Completion(answer, finish_reason=finish), Decision(tier, "so"))
        assert held.action is Action.ESCALATED


def test_in_a_certified_slice_the_points_own_thresholds_hold() -> None:
    made = version()
    short, longer = (Query.from_prompt("a" * n, language="en") for n in (5, 150))
    assert [made.decide(query).tier for query in (short, longer)] == ["small", "medium"]
    assert made.judge(short, Completion("x"), made.decide(short)).action is Action.ACCEPTED
    assert made.judge(short, Completion(""), made.decide(short)).action is Action.ESCALATED
    assert made.judge(longer, Completion(""), made.decide(longer)).action is Action.ABSTAINED
    assert made.judge(short, Completion(""), Decision("large", "last tier")).action is Action.ABSTAINED


def test_the_verifier_can_be_asked_where_nothing_is_promised() -> None:
    """A replica warms every verifier up, whichever slice its first query falls into."""
    query = Query.from_prompt("a", language="de")
    assert version().estimate(query, Completion("x"), Decision("medium", "warm-up")) == 1.0


def test_every_slice_is_replayed_as_it_is_served() -> None:
    prompts = [f"{language} {i} " + "a" * length for i, (language, length) in enumerate(ROWS)]
    columns = {"prompt": prompts, "language": [language for language, _ in ROWS]}
    for tier in TIERS:
        every = 4 if tier == "large" else 3
        columns |= {tier: [1.0] * len(ROWS), f"{tier}_answer": ["Yes." if i % every else "" for i in range(len(ROWS))]}
    table = table_of(parse_columns(pd.DataFrame(columns), TIERS))
    made = version()
    ways = version_itineraries(made, table)
    answers = {tier: table.answers_of(tier).texts for tier in TIERS}
    for i, way in enumerate(ways):
        query = Query.from_prompt(table.prompts.texts[i], language=table.column("language")[i])
        assert told(way) == served(made, query, {tier: answers[tier][i] for tier in TIERS})
    assert {way.action for way in ways} == {Action.ROUTED, Action.ACCEPTED, Action.ESCALATED, Action.ABSTAINED}


ROWS = [(language, length) for language in ("en", "de", "it") for length in (0, 40, 100, 300, 900) for _ in range(4)]


def told(way: Itinerary) -> tuple[list[str], str | None]:
    return [tier for step in way.steps for tier in step.tiers], way.answered_by


def served(made: RouterVersion, query: Query, answers: dict[str, str]) -> tuple[list[str], str | None]:
    """Which tiers are called, and whose answer is shown (None: abstained), by the rules of a request."""
    decision = made.decide(query)
    calls = [decision.tier]
    verdict = made.judge(query, Completion(answers[decision.tier]), decision)
    if verdict.action is Action.ESCALATED:
        calls.append("large")
        verdict = made.judge(query, Completion(answers["large"]), Decision("large", "last tier", decision.p_cheap_ok))
    return calls, None if verdict.action is Action.ABSTAINED else calls[-1]
