"""What replicas say of their comparisons, of one that is gone what it said last."""

import json

from hypothesis import given
from hypothesis import strategies as st

from serve_graph.learning.comparing.tally import REPLICAS_KEPT, ComparisonTally, tallied

TOLD = st.tuples(st.integers(0, 50), st.integers(0, 9), st.integers(0, 9))


@given(st.lists(st.lists(TOLD, max_size=4), max_size=30))
def test_nothing_that_a_replica_did_is_lost_or_counted_twice_however_many_come_and_go(
    rounds: list[list[tuple[int, int, int]]],
) -> None:
    """Every round some replicas of a new kind tell twice: the second time they have done more."""
    found: dict[str, object] = {}
    offered = shed = 0
    for n, replicas in enumerate(rounds):
        for more in (0, 1):
            told = []
            for name, compared, busy in replicas:
                tally = ComparisonTally(compared + busy + more, compared)
                tally.shed["busy"] += busy
                told.append({**tally.told(), "replica": f"{n}-{name}", "spent_usd": None, "budget_usd": "1"})
            found = tallied(found, told)
        each = {name: (compared + busy + 1, busy) for name, compared, busy in replicas}
        offered, shed = (total + sum(one[i] for one in each.values()) for i, total in enumerate((offered, shed)))
        assert (found["offered"], dict(found["shed"]).get("busy", 0)) == (offered, shed)  # type: ignore[call-overload]
        assert len(found["replicas"]) <= REPLICAS_KEPT  # type: ignore[arg-type]
        json.dumps(found)
