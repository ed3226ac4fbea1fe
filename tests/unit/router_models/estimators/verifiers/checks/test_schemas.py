import time
from typing import Any

import pytest

from router_models.estimators.verifiers.checks.schemas import matches_schema

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
    ],
    ids=["pattern", "property pattern", "a dialect within", "doubling references", "a circle"],
)  # fmt: skip
def test_no_schema_keeps_the_verifier_busy(schema: Any, value: Any) -> None:
    started = time.process_time()
    matches_schema(value, schema)
    assert time.process_time() - started < 2.0
