"""Signals of answers to requests that declare JSON: kept in tables, shown to verifiers, counted in certificates."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from router_models.data.formats import frame_to_outcomes, outcomes_to_frame, parse_columns
from router_models.data.outcomes import table_of
from router_models.estimators.signals import TierKind
from router_models.training.evidence import answers_as_served, score_table
from router_models.types import Answers, FloatArray, Outcome, Usage

TIERS = ("cheap", "frontier")


def outcome(prompt: int, tier: str, **measured: float) -> Outcome:
    return Outcome(f"p{prompt}", f"invoice {prompt}", tier, "{}", 1.0, Usage(9, 3), 0.1, logprobs=measured)


ROWS = [
    outcome(0, "cheap", schema_fault=1.0, field_agreement=0.0),
    outcome(0, "frontier", schema_fault=1.0, field_agreement=0.5),
    outcome(1, "cheap", schema_fault=0.0, field_agreement=0.75),
    outcome(1, "frontier"),
]


def test_what_was_measured_is_kept_and_a_table_without_it_has_no_such_column() -> None:
    frame = outcomes_to_frame(ROWS)
    assert frame["field_agreement"].tolist()[:3] == [0.0, 0.5, 0.75]
    assert frame_to_outcomes(frame) == ROWS
    assert not {"schema_fault", "field_agreement"} & set(outcomes_to_frame([replace(ROWS[0], logprobs={})]))


def test_verifiers_of_every_kind_of_tier_are_shown_it() -> None:
    table = table_of(parse_columns(outcomes_to_frame(ROWS), TIERS))
    shown = answers_as_served(table, TIERS, "cheap", np.array([0.5, 0.5]), TierKind.HOSTED).signals
    assert shown["field_agreement"].tolist() == [0.0, 0.75]
    assert set(shown) == {"schema_fault", "field_agreement", "router_score"}


class SureStage:
    """Scores .9 whatever is shown."""

    router = None

    def estimate_ok(self, answers: Answers) -> FloatArray:
        return np.full(len(answers), 0.9)


def test_a_broken_schema_counts_as_escalated_but_at_the_last_tier() -> None:
    """As in serving, where a rule rejects it whatever the verifier says."""
    table = table_of(parse_columns(outcomes_to_frame(ROWS), TIERS))
    version: Any = SimpleNamespace(
        stages=dict.fromkeys(TIERS, SureStage()),
        policy=SimpleNamespace(tiers=TIERS, top="frontier"),
        asked_first=(),
        asked_of=lambda tier: (),
    )
    scores = score_table(cast("Any", version), table).p_ok
    assert scores["cheap"].tolist() == [0.0, 0.9]
    assert scores["frontier"].tolist() == [0.9, 0.9]
