"""Equality of JSON values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.starter.compare import agrees, same

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(database=None, deadline=None)
def test_a_value_is_the_same_as_itself(value: object) -> None:
    assert same(value, value)
    assert same(value, value, loose=True)


@given(VALUES, VALUES)
@settings(database=None, deadline=None)
def test_comparison_is_total_and_symmetric(left: object, right: object) -> None:
    assert same(left, right) == same(right, left)


@pytest.mark.parametrize(
    ("left", "right"), [(1, True), (0, False), ("1", 1), ([1], [1, 1]), ({"a": 1}, {"b": 1}), (None, 0)]
)
def test_values_that_only_look_alike_differ(left: object, right: object) -> None:
    assert not same(left, right)


def test_whole_and_floating_numbers_may_be_equal() -> None:
    assert same(6, 6.0)
    assert same(0.1 + 0.2, 0.3)
    assert not same(10**400, 1.5)


def test_loose_comparison_reads_scalars_as_text() -> None:
    assert same({"age": "42 "}, {"age": 42}, loose=True)
    assert not same({"age": None}, {"age": "None"}, loose=True)


def test_values_nested_beyond_the_stack_are_never_the_same() -> None:
    deep: object = []
    for _ in range(50_000):
        deep = [deep]
    assert not same(deep, [deep])


@pytest.mark.parametrize(
    ("found", "wanted"),
    [(12.5, "12.50"), ("12.50", 12.5), (12, 12.0), (0.1 + 0.2, 0.3), ("  ACME  Ltd", "acme ltd"), (10**17, "1e17")],
)
def test_an_extracted_value_agrees_in_either_writing_on_either_side(found: object, wanted: object) -> None:
    assert agrees({"a": [found]}, {"a": [wanted]})


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (2041000001, 2041000002),
        (1234567.8, 1234567.1),
        (10**17 + 1, 10**17),
        (True, 1),
        (None, 0),
        ("nan", 1),
        ("1e999999999", 1),
        ("twelve", 12),
    ],
)
def test_numbers_that_differ_never_agree_however_large_they_are(found: object, wanted: object) -> None:
    assert not agrees(found, wanted)
    assert not agrees(wanted, found)
