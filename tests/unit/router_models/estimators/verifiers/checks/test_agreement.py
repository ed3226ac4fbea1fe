"""How much of a JSON answer its document says, in whatever way of writing."""

import json
import math
from typing import Any

import pytest

from router_models.estimators.verifiers.checks.agreement import MOST_FIELDS, field_agreement
from router_models.estimators.verifiers.checks.formats import format_columns, measured_formats
from router_models.types import Completion, Message, Query
from router_models.types.exchange import FORMAT_NAMES, PREFIX_FINISH

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
DECLARED = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
DOCUMENT = "Müller & Söhne KG, Rechnung R-17 vom 5. März 2026, fällig 20.03.26. Zu zahlen: 1.234,50 EUR (3 Stück)"


def agreement(answer: Any, document: str = DOCUMENT, parameters: dict[str, Any] = DECLARED) -> float:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return field_agreement(Query((Message("user", document),), {}, parameters), Completion(text))


@pytest.mark.parametrize(
    "value",
    ["Müller & Söhne KG", "müller & söhne", "R-17", "2026-03-05", "2026-03-20", 1234.5, 3, "EUR", "1.234,50"],
)
def test_what_the_document_says_agrees_however_it_is_written(value: Any) -> None:
    assert agreement({"field": value}) == 1.0


@pytest.mark.parametrize(
    "value", ["Maier KG", "R-18", "R-1", "2026-03-06", "2026-02-31", 1234.05, 1235, 12, "USD", math.inf, 10**400]
)
def test_what_it_does_not_say_disagrees(value: Any) -> None:
    assert agreement({"field": value}) == 0.0


@pytest.mark.parametrize(
    ("written", "iso"),
    [("3/5/2026", "2026-03-05"), ("05/03/2026", "2026-03-05"), ("March 5, 2026", "2026-03-05"),
     ("5 Dec 2026", "2026-12-05"), ("31. Dez. 2026", "2026-12-31"), ("due 2026-03-05.", "2026-03-05")],
)  # fmt: skip
def test_days_are_found_as_they_are_written(written: str, iso: str) -> None:
    assert agreement({"date": iso}, f"Dated {written}, paid 1,000") == 1.0


def test_numbers_are_read_in_english_and_in_german() -> None:
    for written, value in (
        ("1,234.50", 1234.5),
        ("1.234,50", 1234.5),
        ("12.345", 12345),
        ("0,99", 0.99),
        ("1'000", 1000),
    ):
        assert agreement({"total": value}, f"total {written} EUR") == 1.0


def test_the_share_counts_values_at_every_depth_and_no_truth_values() -> None:
    answer = {"a": "R-17", "lines": [{"n": 3}, {"n": 99}], "paid": True, "note": None}
    assert agreement(answer) == pytest.approx(2 / 3)


def test_no_json_agrees_with_nothing_and_without_values_nothing_is_measured() -> None:
    assert agreement("Zu zahlen: 1.234,50") == 0.0
    assert agreement("[" * 100_000) == 0.0
    assert math.isnan(agreement({"paid": True}))
    assert math.isnan(agreement({"total": 3}, parameters={}))
    assert math.isnan(agreement({"total": 3}, parameters={"response_format": {"type": "text"}}))


def test_long_answers_and_documents_are_read_in_part() -> None:
    document = "1 " * 100_000 + "R-17"
    assert agreement({str(i): "R-17" if i < MOST_FIELDS else "made up" for i in range(10_000)}, document) == 1.0


def test_the_signals_of_an_answer_are_measured_where_json_is_declared() -> None:
    query = Query((Message("user", DOCUMENT),), {}, DECLARED)
    assert measured_formats(query, Completion('{"total": 1234.5}')) == {"schema_fault": 0.0, "field_agreement": 1.0}
    assert measured_formats(query, Completion('{"total": "3"}')) == {"schema_fault": 1.0, "field_agreement": 1.0}
    assert measured_formats(Query.from_prompt(DOCUMENT), Completion('{"total": 3}')) == {}
    columns = format_columns(query, Completion('{"total": 7}'), ("lp_mean", *FORMAT_NAMES))
    assert {name: column.tolist() for name, column in columns.items()} == {"schema_fault": [0], "field_agreement": [0]}
    assert format_columns(query, Completion("{}"), ("lp_mean",)) == {}
    begun = format_columns(query, Completion('{"tot', PREFIX_FINISH), FORMAT_NAMES)
    assert all(math.isnan(column[0]) for column in begun.values())
