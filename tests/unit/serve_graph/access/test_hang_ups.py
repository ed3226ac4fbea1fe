"""Callers who hang up again and again keep places of their key, and nobody else's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.access.accounts import HUNG_UP, Accounts
from serve_graph.access.hang_ups import FREE_PER_MIN, KEPT_S, HangUps
from serve_graph.config.access import KeyConfig
from serve_graph.errors import RateLimitedError


def key(name: str = "mallory", **limits: Any) -> KeyConfig:
    return KeyConfig.model_validate({"name": name, "sha256": "ab" * 32, **limits})


def test_a_few_a_minute_keep_no_place_and_more_keep_one_for_a_while() -> None:
    hang_ups = HangUps()
    for _ in range(FREE_PER_MIN):
        hang_ups.note("a", 0.0)
    assert hang_ups.kept("a", 0.0) == 0
    for n in range(5):
        hang_ups.note("a", 0.0)
        assert hang_ups.kept("a", 0.0) == n + 1
    assert hang_ups.kept("b", 0.0) == 0
    assert hang_ups.kept("a", KEPT_S) == 0
    hang_ups.note("a", 60.0)
    assert hang_ups.kept("a", 60.0) == 0, "a minute later"


def test_places_that_are_kept_are_bounded() -> None:
    hang_ups = HangUps()
    for _ in range(10_000):
        hang_ups.note("a", 0.0)
    assert hang_ups.kept("a", 0.0) <= 256


def test_a_flood_of_hang_ups_is_held_to_the_keys_concurrency(a_record: Callable[..., DecisionRecord]) -> None:
    """Each is abandoned at once: without places that are kept, as many as can be sent would be begun in a second."""
    now = [0.0]
    accounts, mallory, alice = Accounts(clock=lambda: now[0]), key(concurrency=4), key("alice", concurrency=1)
    abandoned = a_record(key="mallory", status=499, error=HUNG_UP)

    def begun(seconds: float) -> int:
        done, until = 0, now[0] + seconds
        while now[0] < until:
            now[0] += 0.001
            try:
                accounts.enter(mallory)
            except RateLimitedError:
                continue
            done += 1
            accounts.charge(replace(abandoned, id=f"dec-{now[0]}"), mallory)
            accounts.leave(mallory)
        return done

    begun(1.0)
    assert begun(10.0) <= 10 * 4 / KEPT_S + 10 * FREE_PER_MIN / 60
    accounts.enter(alice)
    accounts.leave(alice)
    now[0] += KEPT_S
    accounts.enter(mallory)


@pytest.mark.parametrize("error", [None, "timeout_error", "overloaded_error"])
def test_answers_and_other_ends_keep_no_place(a_record: Callable[..., DecisionRecord], error: str | None) -> None:
    accounts = Accounts(clock=lambda: 0.0)
    for _ in range(3 * FREE_PER_MIN):
        accounts.charge(a_record(key="mallory", error=error), key())
    assert accounts.hang_ups.kept("mallory", 0.0) == 0
