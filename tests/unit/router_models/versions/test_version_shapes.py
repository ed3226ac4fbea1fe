"""Answers and the shape that their request declared: checked before any score counts."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.training.certify import tiers_with_calls
from router_models.types import Action, Completion, Decision, OperatingPoint, Outcome, Query, Usage
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage


def version(stage: Stage | None = None) -> RouterVersion:
    rng = np.random.default_rng(0)
    scores, grades = rng.random(300), (rng.random(300) < 0.6).astype(float)
    platt = CALIBRATORS["platt"]().fit(scores, grades)
    stages = {"cheap": stage or Stage(LengthRouter(), platt, NonEmptyVerifier(), platt)}
    points = {"cheap": OperatingPoint(0.5, 0.7, 0.1), "frontier": OperatingPoint(math.inf, 0.0, 0.05)}
    return RouterVersion(Policy(("cheap", "frontier"), points), stages)


ASKED = Query.from_prompt("short")
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
JSON_WANTED = {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "age_of", "parameters": PERSON}}]}


def _calling(arguments: str) -> Completion:
    call = {"id": "1", "type": "function", "function": {"name": "age_of", "arguments": arguments}}
    payload = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    return Completion("", "tool_calls", payload=payload)


@pytest.mark.parametrize(
    ("asked", "completion", "word"),
    [
        (JSON_WANTED, Completion("she is three"), "JSON"),
        (JSON_WANTED, Completion('{"age": "three"}'), "JSON"),
        (TOOLS, _calling('{"age": "three"}'), "tool call"),
        (TOOLS, _calling('{"age": 3'), "tool call"),
        ({**TOOLS, "tool_choice": "required"}, Completion("three"), "tool call"),
    ],
)
def test_answer_that_breaks_the_declared_shape_is_escalated_whatever_its_score(
    asked: dict[str, object], completion: Completion, word: str
) -> None:
    sure = version(Stage(LengthRouter(), None, NonEmptyVerifier(), None))
    query = Query(ASKED.messages, {}, asked)
    verdict = sure.judge(query, completion, Decision("cheap", "test"))
    assert verdict.action is Action.ESCALATED
    assert word in verdict.reason


@pytest.mark.parametrize(
    ("asked", "completion"),
    [
        (JSON_WANTED, Completion('{"age": 3}')),
        (TOOLS, Completion("three")),
    ],
)
def test_answer_of_the_declared_shape_is_left_to_the_verifier(
    asked: dict[str, object], completion: Completion
) -> None:
    made = version(Stage(LengthRouter(), None, AlwaysSure(), None))
    query = Query(ASKED.messages, {}, asked)
    assert made.judge(query, completion, Decision("cheap", "test")).action is Action.ACCEPTED


def test_last_tier_is_not_held_to_the_shape_there_is_nobody_above_it() -> None:
    query = Query(ASKED.messages, {}, JSON_WANTED)
    verdict = version().judge(query, Completion("no JSON"), Decision("frontier", "test"))
    assert verdict.action is Action.ACCEPTED


class AlwaysSure(NonEmptyVerifier):
    def predict(self, X):  # type: ignore[no-untyped-def]
        return np.ones(len(X))


def test_a_call_as_declared_is_accepted_unjudged_where_no_call_was_certified() -> None:
    made = version(Stage(LengthRouter(), None, NonEmptyVerifier(), None))
    query = Query(ASKED.messages, {}, TOOLS)
    verdict = made.judge(query, _calling('{"age": 3}'), Decision("cheap", "test"))
    assert (verdict.action, verdict.p_ok, verdict.promised) == (Action.ACCEPTED, None, False)
    assert "calls tools" in verdict.reason
    knows = replace(made, judges_calls=("cheap",))
    judged = knows.judge(query, _calling('{"age": 3}'), Decision("cheap", "test"))
    assert (judged.action, judged.p_ok, judged.promised) == (Action.ABSTAINED, 0.0, True)


def test_what_a_version_knows_of_calls_is_saved_with_it(tmp_path: Path) -> None:
    made = version(Stage(LengthRouter(), None, NonEmptyVerifier(), None))
    for judges in ((), ("cheap",)):
        folder = tmp_path / f"version-{len(judges)}"
        replace(made, judges_calls=judges).save(folder)
        assert RouterVersion.load(folder).judges_calls == judges


def test_calls_are_known_of_a_tier_that_both_trained_and_certified_on_some() -> None:
    def part(*finishes: str) -> OutcomeTable:
        prompts = tuple(f"{i} {finishes}" for i in range(len(finishes)))
        rows = [
            Outcome(prompt_id(prompt), prompt, "cheap", "", 1.0, Usage(), 0.0, finish_reason=finish)
            for prompt, finish in zip(prompts, finishes, strict=True)
        ]
        return table_of(parse_columns(outcomes_to_frame(rows)))

    some, none = part("stop", "tool_calls"), part("stop", "length")
    assert tiers_with_calls((some, some), ("cheap", "frontier")) == ("cheap",)
    assert tiers_with_calls((some, none), ("cheap", "frontier")) == ()
    assert tiers_with_calls((none, some), ("cheap", "frontier")) == ()
