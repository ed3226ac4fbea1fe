import math

from serve_graph.engines.hosted.breaker import LONGEST_REST_S, Breaker


def breaker() -> Breaker:
    return Breaker(trip_after=2, cooldown_s=30.0)


def tripped(now: float = 100.0) -> Breaker:
    made = breaker()
    made.failed(made.begin(), now)
    made.failed(made.begin(), now)
    return made


def test_one_failure_does_not_trip() -> None:
    made = breaker()
    made.failed(made.begin(), 100.0)
    assert made.free_at(100.0) == 100.0
    assert not made.begin()


def test_success_between_failures_starts_the_count_anew() -> None:
    made = breaker()
    made.failed(made.begin(), 100.0)
    made.succeeded(made.begin())
    made.failed(made.begin(), 101.0)
    assert made.free_at(101.0) == 101.0


def test_failures_in_a_row_make_it_rest() -> None:
    assert tripped(100.0).free_at(101.0) == 130.0


def test_after_the_rest_one_probe_and_nobody_else() -> None:
    made = tripped(100.0)
    assert made.free_at(130.0) == 130.0
    assert made.begin()
    assert made.free_at(130.0) == math.inf


def test_probe_that_succeeds_closes_it() -> None:
    made = tripped(100.0)
    made.succeeded(made.begin())
    assert made.free_at(131.0) == 131.0
    assert not made.begin()


def test_probe_that_fails_makes_it_rest_again() -> None:
    made = tripped(100.0)
    made.failed(made.begin(), 140.0)
    assert made.free_at(141.0) == 170.0


def test_probe_whose_caller_disconnects_frees_the_probe() -> None:
    made = tripped(100.0)
    made.dropped(made.begin())
    assert made.free_at(131.0) == 131.0
    assert made.begin()


def test_call_from_before_the_trip_does_not_undo_it() -> None:
    made = breaker()
    early = made.begin()
    made.failed(made.begin(), 100.0)
    made.failed(made.begin(), 100.0)
    made.succeeded(early)
    assert made.free_at(101.0) == 130.0


def test_retry_after_is_a_rest_without_a_probe() -> None:
    made = breaker()
    made.failed(made.begin(), 100.0, retry_after_s=7.0)
    assert made.free_at(101.0) == 107.0
    assert not made.begin()


def test_retry_after_of_a_day_is_cut() -> None:
    made = breaker()
    made.failed(made.begin(), 100.0, retry_after_s=86_400.0)
    assert made.free_at(100.0) == 100.0 + LONGEST_REST_S
