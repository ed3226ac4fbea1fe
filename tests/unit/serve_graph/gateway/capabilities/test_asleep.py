import pytest

from router_models.types import Decision
from serve_graph.gateway.capabilities import AsleepTiers

LADDER = ("small", "medium", "large")


@pytest.mark.parametrize(
    ("asleep", "chosen", "answers", "woken"),
    [
        ((), "small", "small", []),
        (("medium",), "small", "small", []),
        (("small",), "small", "medium", ["small"]),
        (("small", "medium"), "small", "large", ["small"]),
        (("small", "medium"), "medium", "large", ["medium"]),
        (("small", "medium", "large"), "small", "large", ["small"]),
        (("large",), "large", "large", []),
        (("elsewhere",), "elsewhere", "elsewhere", []),
    ],
)
def test_the_next_tier_that_is_awake_answers_and_the_one_asleep_is_woken(
    asleep: tuple[str, ...], chosen: str, answers: str, woken: list[str]
) -> None:
    called: list[str] = []
    tiers = AsleepTiers(called.append, frozenset(asleep))
    decision = tiers.apply(Decision(chosen, "so"), LADDER)
    assert (decision.tier, called) == (answers, woken)
    assert (decision.moved is None) is (answers == chosen)
    if decision.moved is not None:
        assert f"{chosen} had no replica and is being started" in decision.reason
