from hypothesis import given
from hypothesis import strategies as st

from serve_graph.access.limits.bucket import Bucket


def test_a_minutes_worth_at_once_then_one_at_a_time() -> None:
    bucket = Bucket(60, now=0.0)
    for _ in range(60):
        assert bucket.wait_s(0.0) == 0
        bucket.take(0.0)
    assert bucket.wait_s(0.0) == 1.0
    assert bucket.wait_s(1.0) == 0


def test_tokens_counted_afterwards_make_a_debt_that_is_waited_out() -> None:
    bucket = Bucket(600, now=0.0)
    bucket.take(0.0, 1_200)
    assert bucket.wait_s(0.0) == 601 * 60 / 600
    assert bucket.wait_s(60.1) == 0


def test_a_clock_that_stands_or_goes_back_fills_nothing() -> None:
    bucket = Bucket(1, now=100.0)
    bucket.take(100.0)
    assert bucket.wait_s(50.0) == 60.0


def test_nothing_is_saved_up_beyond_a_minute() -> None:
    bucket = Bucket(2, now=0.0)
    let_in = 0
    while bucket.wait_s(1e6) == 0:
        bucket.take(1e6)
        let_in += 1
    assert let_in == 2


@given(st.integers(1, 50), st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_no_stretch_of_time_lets_more_through_than_promised(per_min: int, gaps: list[float]) -> None:
    bucket, now, passed = Bucket(per_min, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        if bucket.wait_s(now) <= 0:
            bucket.take(now)
            passed += 1
    assert passed <= per_min + per_min * now / 60 + 1e-6


def test_what_is_left_and_when_it_is_full_again_are_told() -> None:
    bucket = Bucket(60, 0.0)
    assert (bucket.left(0.0), bucket.full_s(0.0)) == (60, 0.0)
    bucket.take(0.0, 90)
    assert (bucket.left(0.0), bucket.full_s(0.0)) == (0, 90.0)
    assert (bucket.left(40.5), bucket.full_s(40.5)) == (10, 49.5)
