"""Answers and the shape that their request declared: checked before any score counts."""

import math

import numpy as np
import pytest

from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Action, Completion, Decision, OperatingPoint, Query
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
        (JSON_WANTED | TOOLS, _calling('{"age": 3}')),
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
