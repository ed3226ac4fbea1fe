import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.prefixes import kept_logprobs, prefix_of
from router_models.types import PREFIX_FINISH

LOGPROBS = st.lists(st.floats(-40, 0), min_size=0, max_size=12)


def test_a_prefix_is_the_first_tokens_and_has_a_finish_reason_of_its_own() -> None:
    begun = prefix_of(("I", " am", " here", "."), (-0.5, -1.0, -0.25, -2.0), 2)
    assert begun is not None
    assert (begun.text, begun.token_logprobs, begun.finish_reason) == ("I am", (-0.5, -1.0), PREFIX_FINISH)


@pytest.mark.parametrize("tokens", [3, 4, 100])
def test_an_answer_that_is_no_longer_has_none(tokens: int) -> None:
    assert prefix_of(("a", "b", "c"), (-0.1, -0.1, -0.1), tokens) is None


@given(LOGPROBS, LOGPROBS, st.integers(1, 8))
def test_tokens_after_the_prefix_are_never_read(first: list[float], rest: list[float], tokens: int) -> None:
    first = (first * tokens)[:tokens] if first else [-1.0] * tokens
    texts = [f"t{i}" for i in range(tokens)]
    short = prefix_of([*texts, "x"], [*first, -1.0], tokens)
    long = prefix_of([*texts, *("y" for _ in rest), "z"], [*first, *rest, -9.0], tokens)
    assert short == long


@given(LOGPROBS)
def test_kept_logprobs_are_close_small_and_kept_unchanged(values: list[float]) -> None:
    kept = kept_logprobs(values)
    assert kept_logprobs(kept) == kept
    assert all(abs(a - b) <= abs(b) / 4096 + 1e-37 for a, b in zip(kept, values, strict=True))
    assert kept_logprobs([float(x) for x in kept]) == kept


def test_what_is_no_number_becomes_what_engines_write() -> None:
    least = kept_logprobs([-9999.0])[0]
    assert kept_logprobs([math.nan, -math.inf, 0.0]) == (least, least, 0.0)
