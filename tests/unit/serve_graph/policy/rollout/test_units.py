"""Outcomes of very many units: each counted once by its first, in order, and in little memory."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from router_models.monitoring.canary import ArmOutcome
from serve_graph.policy.rollout import units
from serve_graph.policy.rollout.units import UnitOutcomes

OUTCOME = st.builds(
    ArmOutcome,
    st.sampled_from(["stable", "candidate"]),
    st.floats(0, 1),
    st.booleans(),
    st.floats(0, 9),
    st.floats(0, 9),
)


@given(st.lists(st.tuples(st.text(max_size=2), OUTCOME), max_size=40))
def test_the_first_outcome_of_each_unit_stays_as_it_was_in_order(given: list[tuple[str, ArmOutcome]]) -> None:
    found, first = UnitOutcomes(), dict[str, ArmOutcome]()
    for unit, outcome in given:
        assert found.add(unit, outcome) == (unit not in first)
        first.setdefault(unit, outcome)
    assert list(found) == list(first.values())
    assert found[1:] == list(first.values())[1:]


def test_many_units_take_tens_of_bytes_each_and_none_is_forgotten() -> None:
    found, outcome, n = UnitOutcomes(), ArmOutcome("candidate", 0.05, False, 1.5, 0.001), 20 * units.MERGED_AT
    found.add("first", outcome)
    tracemalloc.start()
    try:
        for unit in range(n):
            found.add(f"{unit:032x}", outcome)
        assert tracemalloc.get_traced_memory()[0] / n < 64
    finally:
        tracemalloc.stop()
    assert len(found) == n + 1
    assert not any(found.add(f"{unit:032x}", outcome) for unit in range(0, n, 97)), "none is forgotten"
