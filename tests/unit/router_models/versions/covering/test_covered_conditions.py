"""A condition is covered where enough rows were asked under it, and rows that are not covered are no evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router_models.types.conditions import PLAIN, Conditions
from router_models.versions.covering.covered_conditions import LEAST_ROWS, covered_conditions

WARM = Conditions(decoding='{"temperature":0.7}')
AGENT = Conditions(tools=True, declared="aa" * 32)
EXTRACTION = Conditions(response_format="json_schema", schema="bb" * 32)


def test_a_few_rows_cover_nothing_and_do_not_count() -> None:
    few = covered_conditions([PLAIN] * 100 + [WARM] * (LEAST_ROWS - 1))
    assert few.uncovered(WARM) is not None
    assert few.n == 100


def test_rows_that_one_condition_excludes_are_no_evidence_for_their_others() -> None:
    """Twenty rows share a system prompt, and each has sampling settings of its own."""
    rare = [Conditions(system_prompt="cc", decoding=f'{{"temperature":1.{i}}}') for i in range(10, 30)]
    found = covered_conditions([PLAIN] * 100 + rare)
    assert found.uncovered(Conditions(system_prompt="cc")) is not None
    assert found.n == 100


@pytest.mark.parametrize(
    ("reason", "certified", "field"), [("tools", AGENT, "declared"), ("response_format", EXTRACTION, "schema")]
)
def test_rows_that_do_not_say_which_tools_or_schema_they_had_are_no_evidence(
    reason: str, certified: Conditions, field: str
) -> None:
    unnamed = replace(certified, **{field: ""})
    coverage = covered_conditions([unnamed] * 50 + [PLAIN] * 50)
    assert coverage.n == 50
    assert coverage.left_out == ((reason, 50),)
    for asked in (unnamed, certified):
        assert coverage.uncovered(asked) is not None
