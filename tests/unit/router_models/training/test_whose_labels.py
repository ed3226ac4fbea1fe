"""A judge's labels train and tune; people's and programs' certify, and a certificate names whose it rests on."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.risk_control.certificates.certificate import Certificate
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.training.whose_labels import Evidence, evidence_asked_for, with_label_source
from router_models.types import Outcome, Usage
from router_models.types.exchange import LOGPROB_NAMES

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("cheap", "top")
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "top": Price(Decimal("0.5"), Decimal(1))}
PAIR = Settings(TIERS, PRICES, epsilon=0.25, delta=0.2, router="surface", verifier="logprob", promise="accepted")


def world(n: int = 500) -> OutcomeTable:
    """Confidences tell right from wrong; nobody says who graded."""
    rng, outcomes = random.Random(4), []
    for i in range(n):
        prompt, right = f"What colour is the cat number {i} of {rng.randint(1, 999)}?", rng.random() < 0.75
        lp = (-0.05 if right else -1.0) - rng.random()
        summary = dict.fromkeys(LOGPROB_NAMES[:-1], lp) | {"log_tokens": math.log1p(6)}
        outcomes += [
            Outcome(prompt_id(prompt), prompt, tier, "So.", float(grade), Usage(20, 6), 0.1, "stop", summary)
            for tier, grade in (("cheap", right), ("top", rng.random() < 0.95))
        ]
    return table_of(parse_columns(outcomes_to_frame(outcomes)))


class Given(Encoder):
    """No encoder: nothing here is embedded."""

    def encode(self, texts: object) -> np.ndarray:
        pytest.fail("prompts were embedded")


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return world()


@pytest.fixture(scope="module")
def candidate(table: OutcomeTable) -> Candidate:
    return fit_candidate(split_outcomes(table, TIERS, 0), PAIR, Given())


def said_by(table: OutcomeTable, *cheap: str, top: str | None = None) -> OutcomeTable:
    """Who graded, by turns; the last tier by `top` throughout where it is given."""
    mine = tuple(cheap[i % len(cheap)] for i in range(len(table)))
    return replace(table, label_sources={"cheap": mine, "top": mine if top is None else (top,) * len(table)})


def parts(table: OutcomeTable, settings: Settings = PAIR, evidence: Evidence = "given") -> LabelledSplits:
    return split_outcomes(table, TIERS, 0, counted=settings.counted_tiers, evidence=evidence)


def certificate(candidate: Candidate, splits: LabelledSplits) -> Certificate:
    made = certify_candidate(candidate, splits, PAIR, NOW).version.certificate
    assert made is not None
    assert Certificate.from_json(made.to_json()) == made
    return made


def test_a_certificate_names_whose_labels_it_rests_on(table: OutcomeTable, candidate: Candidate) -> None:
    said = {
        ("human",): "human labels",
        ("programmatic",): "programmatic labels",
        ("human", "programmatic"): "human and programmatic labels",
        ("judge:gpt-4o",): "judge labels (agreement with judge gpt-4o)",
        ("",): "labels of unstated source",
    }
    for sources, words in said.items():
        assert words in certificate(candidate, parts(said_by(table, *sources))).summary()


def test_a_judges_labels_beside_peoples_are_no_evidence_and_are_counted_as_left_out(
    table: OutcomeTable, candidate: Candidate
) -> None:
    mixed = said_by(table, "human", "judge:a", "judge:b")
    splits, whole = parts(mixed), parts(table)
    assert set(splits.cert.label_source("cheap")) == {"human"}
    assert (len(splits.train), len(splits.tune)) == (len(whole.train), len(whole.tune)), "they train and tune"
    made = certificate(candidate, splits)
    assert (made.label_source, set(made.left_out)) == ("human", {"judge:a", "judge:b"})
    assert len(splits.cert) + sum(made.left_out.values()) == len(whole.cert)
    assert f"human labels, {made.left_out['judge:a']} labels of judge:a left out" in made.summary()


def test_a_judge_that_was_asked_for_certifies_agreement_with_it_alone(
    table: OutcomeTable, candidate: Candidate
) -> None:
    assert [evidence_asked_for(source) for source in ("human", None, "Judge")] == ["given", "given", "judge"]
    given = with_label_source(said_by(table, "human", "judge", ""), "Judge:a")
    assert set(given.label_source("cheap")) == {"human", "judge:a"}, "judges without a name get it, people stay"
    splits = parts(given, evidence=evidence_asked_for("Judge:a"))
    made = certificate(candidate, splits)
    assert (made.label_source, set(made.left_out)) == ("judge:a", {"human"})
    with pytest.raises(DataError, match="no label of CERT is a judge's"):
        parts(said_by(table, "human"), evidence="judge")


def test_only_the_tiers_that_the_promise_counts_say_whose_labels_certify(table: OutcomeTable) -> None:
    given = said_by(table, "human", top="judge:a")
    assert parts(given).labels_used.source == "human", "the last tier's labels are not read"
    for settings in (replace(PAIR, promise="answered"), replace(PAIR, max_drop=0.1)):
        with pytest.raises(DataError, match="labels of human and of judge:a are mixed in CERT"):
            str(parts(given, settings).labels_used)


@pytest.mark.parametrize("sources", [("judge:a", "judge:b"), ("judge", "judge:a")])
def test_certificates_of_mixed_judges_are_refused_by_name(
    table: OutcomeTable, candidate: Candidate, sources: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=f"labels of {sources[0]} and of {sources[1]} are mixed"):
        certify_candidate(candidate, parts(said_by(table, *sources)), PAIR, NOW)


def test_an_option_fills_what_says_nothing_and_contradicts_nobody(table: OutcomeTable) -> None:
    assert with_label_source(table, None) is table
    filled = with_label_source(said_by(table, "human", ""), "human")
    assert set(filled.label_source("cheap")) == set(filled.label_source("top")) == {"human"}
    for asked, there in (("human", "programmatic"), ("human", "judge:a"), ("judge:b", "judge:a")):
        with pytest.raises(DataError, match=f"contradicts the table, whose labels of tier 'cheap' say: 250 {there}"):
            with_label_source(said_by(table, there, ""), asked)
    for nothing in ("me", "judge:", ""):
        with pytest.raises(DataError, match="label source"):
            with_label_source(table, nothing)


def test_a_group_with_a_persons_label_keeps_it_whichever_row_was_drawn(table: OutcomeTable) -> None:
    twice = table.take(np.repeat(np.arange(len(table)), 2))
    splits = parts(said_by(twice, "judge:a", "human"))
    assert set(splits.cert.label_source("cheap")) == {"human"}
    assert len(splits.cert) == len(parts(table).cert)
    assert splits.labels_used.left_out == {}, "no prompt was left out"
    asked = parts(said_by(table, "human", "judge:a"), evidence="asked")
    assert len(asked.cert) == len(parts(table).cert), "people may be asked about every row"
