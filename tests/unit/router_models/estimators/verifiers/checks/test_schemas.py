import time
from typing import Any

import pytest

from router_models.estimators.verifiers.checks.schemas import matches_schema


def nested(depth: int, keyword: str | None = None) -> Any:
    value: Any = {} if keyword else 1
    for _ in range(depth):
        value = {keyword: value} if keyword else [value]
    return value


DOUBLING = {f"s{i}": {"allOf": [{"$ref": f"#/$defs/s{i + 1}"}] * 2} for i in range(30)}


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"type": "object", "required": ["a"]}, {"a": 1}, True),
        ({"type": "object", "required": ["a"]}, {}, False),
        ({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}, {"a": "x"}, False),
        ({"additionalProperties": False, "properties": {"a": {}}}, {"b": 1}, False),
        ({"properties": {"pattern": {"type": "string"}}}, {"pattern": 3}, False),
        ({"enum": [{"pattern": "x"}]}, {"pattern": "x"}, True),
        ({"enum": [{"pattern": "x"}]}, {}, False),
        ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "integer"}}]}, [1, "2"], False),
        (False, {}, False),
        (True, {}, True),
    ],
)
def test_what_a_schema_says_without_patterns_is_checked(schema: Any, value: Any, fits: bool) -> None:
    assert matches_schema(value, schema) is fits


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "(a+)+$"}, "a" * 40 + "b"),
        ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {"a" * 40 + "b": 1}),
        ({"properties": {"x": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}}},
         {"x": "a" * 40 + "b"}),
        ({"$ref": "#/$defs/s0", "$defs": {**DOUBLING, "s30": {"type": "integer"}}}, 1),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, 1),
        (
            {"anyOf": [{"properties": {f"a{i}": {"type": "integer"}}, "required": [f"a{i}"]} for i in range(20_000)]},
            {},
        ),
        ({"oneOf": [{"required": [f"a{i}"]} for i in range(600)]}, {}),
        ({"items": {"anyOf": [{"required": [f"a{i}"]} for i in range(600)]}}, [{}] * 5_000),
        ({"items": {"not": {"enum": list(range(4_000))}}}, [{"a": i} for i in range(4_000)]),
        ({"items": {"not": {"required": [f"a{i}" for i in range(4_000)]}}}, [{}] * 4_000),
        ({"uniqueItems": True}, [{"a": i} for i in range(9_000)]),
        ({"dependentRequired": {f"a{i}": ["b"] for i in range(4_000)}}, {f"a{i}": 1 for i in range(4_000)}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, nested(300)),
        (nested(400, "not"), 1),
    ],
    ids=[
        "pattern", "property pattern", "a dialect within", "doubling references", "a circle", "alternatives",
        "one of many", "many of many", "an enumeration for each", "names for each", "unique objects", "dependencies",
        "a deep value", "a deep schema",
    ],
)  # fmt: skip
def test_no_schema_keeps_the_verifier_busy(schema: Any, value: Any) -> None:
    started = time.thread_time()  # other threads of a worker are not the verifier's
    matches_schema(value, schema)
    assert time.thread_time() - started < 3.0, "the slowest takes 0.5 s; without budgets three take 8 s and more"


@pytest.mark.parametrize(
    ("schema", "value"),
    [({"anyOf": [{"type": "integer"}] * 3_000}, 1), ({"items": {"type": "integer"}}, [1] * 30_000)],
    ids=["the schema is too large", "the answer is too long"],
)
def test_what_is_beyond_the_budget_does_not_match(schema: Any, value: Any) -> None:
    assert not matches_schema(value, schema)


def test_numbers_that_no_float_holds_are_no_fault_of_the_verifier() -> None:
    assert matches_schema(10**400, {"minimum": 1.5})
    matches_schema(10**400, {"multipleOf": 1e-300})
