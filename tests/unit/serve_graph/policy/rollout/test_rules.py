"""When a rollout moves by itself; and what is known of those whom a canary has answered."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.monitoring.canary import ArmOutcome
from router_models.types import DecisionRecord
from serve_graph.policy.rollout.outcomes import RolloutOutcomes
from serve_graph.policy.rollout.rules import RolloutFacts, due_event
from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.transitions import Happened
from serve_graph.records.store import DecisionStore

AT = datetime.fromisoformat("2026-11-29T09:00:00.000+00:00")
CANARY = Rollout.begin(
    "router", "router/1", "router/2", at=AT.isoformat(timespec="milliseconds"), by="os:ann@here",
    steps=(5.0, 50.0), pause_s=60.0, minimum=10,
)  # fmt: skip
LAST = replace(CANARY, step=1, weight=0.5)
PAUSED = replace(LAST, state=RolloutState.PAUSED)
SHADOW = replace(CANARY, kind="shadow", steps=(), weight=0.0)
FOR, AGAINST = RolloutFacts(10, "promote"), RolloutFacts(0, "roll_back", "worse")


@pytest.mark.parametrize(
    ("rollout", "facts", "after_s", "due"),
    [
        (CANARY, RolloutFacts(10), 60, Happened.STEP_PASSED),
        (CANARY, RolloutFacts(10), 59, None),
        (CANARY, RolloutFacts(9), 600, None),
        (CANARY, replace(FOR, held="an alarm"), 600, None),
        (CANARY, FOR, 60, Happened.STEP_PASSED),
        (LAST, RolloutFacts(10), 600, None),
        (LAST, FOR, 60, Happened.EVIDENCE_PROMOTE),
        (LAST, FOR, 59, None),
        (PAUSED, FOR, 600, None),
        (SHADOW, FOR, 600, None),
        (CANARY, AGAINST, 0, Happened.EVIDENCE_ROLL_BACK),
        (PAUSED, AGAINST, 0, Happened.EVIDENCE_ROLL_BACK),
        (SHADOW, AGAINST, 0, Happened.EVIDENCE_ROLL_BACK),
        (LAST, replace(AGAINST, held="an alarm"), 0, Happened.EVIDENCE_ROLL_BACK),
        (LAST, replace(FOR, alarm="bad answers"), 60, Happened.EVIDENCE_ROLL_BACK),
    ],
)
def test_a_rollout_moves_by_rule_and_never_without_a_reason(
    rollout: Rollout, facts: RolloutFacts, after_s: float, due: Happened | None
) -> None:
    found = due_event(rollout, facts, AT + timedelta(seconds=after_s))
    assert (None if found is None else found[0]) == due
    assert found is None or found[1]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    yield made
    await made.close()


async def test_each_unit_counts_once_by_its_first_request_and_late_records_are_found(
    store: DecisionStore, a_record: Callable[..., DecisionRecord]
) -> None:
    def record(n: int, unit: str, arm: str = "stable", after_s: float = 1.0, **fields: Any) -> DecisionRecord:
        rollout = {"id": fields.pop("rollout", CANARY.id), "arm": arm, "weight": 0.05, "unit": unit}
        version = {"stable": "router/1", "candidate": "router/2"}[arm]
        made_at = (AT + timedelta(seconds=after_s)).isoformat(timespec="milliseconds")
        values = {"created_at": made_at, "version": version, "cost_usd": Decimal("0.5"), "latency_s": 2.0} | fields
        return a_record(f"dec-{n}", evidence={"rollout": rollout}, **values)

    outcomes = RolloutOutcomes(store, CANARY)
    assert await outcomes.read() == []
    await store.write_many(
        [
            record(1, "a", after_s=5),
            record(2, "a", after_s=6, status=503),
            record(3, "b", "candidate", after_s=7, status=503),
            record(4, "c", after_s=8, rollout="rol-other"),
            record(5, "d", after_s=-5),
            a_record("dec-6", created_at=AT.isoformat(timespec="milliseconds"), version="router/1"),
        ]
    )
    first = [ArmOutcome("stable", 0.05, False, 2.0, 0.5), ArmOutcome("candidate", 0.05, True, 2.0, 0.5)]
    assert await outcomes.read() == first
    await store.write_many([record(7, "e", after_s=2, latency_s=9.0), record(8, "b", "candidate", after_s=1)])
    assert await outcomes.read() == [*first, ArmOutcome("stable", 0.05, False, 9.0, 0.5)], "what was read stays"
