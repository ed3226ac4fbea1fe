"""When a rollout moves by itself; and what is known of those whom a canary has answered."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.monitoring.canary import ArmOutcome, CanaryEvidence, CanaryLimits
from router_models.types import DecisionRecord
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.rollout.outcomes import RolloutOutcomes, settles_after_s
from serve_graph.policy.rollout.rules import RolloutFacts, due_event
from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.transitions import Happened
from serve_graph.records.store import DecisionStore
from tests.fixtures.registry import echo_graph

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
    assert list(await outcomes.read(AT + timedelta(seconds=20))) == []
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
    assert list(await outcomes.read(AT + timedelta(seconds=20))) == first
    await store.write_many([record(7, "e", after_s=2, latency_s=9.0), record(8, "b", "candidate", after_s=1)])
    assert list(await outcomes.read(AT + timedelta(seconds=20))) == [
        *first,
        ArmOutcome("stable", 0.05, False, 9.0, 0.5),
    ], "what was read stays"


async def test_a_candidate_that_only_answers_sooner_is_not_taken_for_a_wrong_split(
    store: DecisionStore, a_record: Callable[..., DecisionRecord]
) -> None:
    rng = np.random.default_rng(5)
    is_candidate = rng.random(400) < 0.25
    came_s = np.arange(400) / 40
    ends_s = came_s + np.exp(rng.normal(size=400) / 2) * np.where(is_candidate, 2.0, 4.0)

    def record(n: int) -> DecisionRecord:
        unit = {"arm": "candidate" if is_candidate[n] else "stable", "weight": 0.25, "unit": f"u{n}"}
        came = (AT + timedelta(seconds=came_s[n])).isoformat(timespec="milliseconds")
        fields = {"created_at": came, "evidence": {"rollout": {"id": CANARY.id, **unit}}}
        return a_record(f"dec-{n}", version="router/1", latency_s=float(ends_s[n] - came_s[n]), **fields)

    outcomes, found = RolloutOutcomes(store, CANARY, settles_s=30.0), list[ArmOutcome]()
    for second in range(0, 44, 2):
        await store.write_many([record(n) for n in np.flatnonzero((second - 2 < ends_s) & (ends_s <= second))])
        found = list(await outcomes.read(AT + timedelta(seconds=second)))
        split = CanaryEvidence.of([], found, CanaryLimits()).findings
        assert not any(finding.reached for finding in split)
    assert [unit.arm == "candidate" for unit in found] == list(is_candidate), "all of them, as they came"


async def test_a_request_that_took_as_long_as_one_may_is_counted(
    store: DecisionStore, a_record: Callable[..., DecisionRecord]
) -> None:
    def record(n: int, status: int) -> DecisionRecord:
        unit = {"id": CANARY.id, "arm": "candidate", "weight": 0.05, "unit": f"u{n}"}
        came = (AT + timedelta(seconds=n)).isoformat(timespec="milliseconds")
        return a_record(f"dec-{n}", created_at=came, version="router/2", status=status, evidence={"rollout": unit})

    outcomes = RolloutOutcomes(store, CANARY, settles_s=270.0)
    await store.write_many([record(n, 200) for n in range(2, 200)])
    await outcomes.read(AT + timedelta(seconds=230))
    await store.write_many([record(1, 504)])
    assert [unit.failed for unit in await outcomes.read(AT + timedelta(seconds=273))] == [True, False]


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [({}, 2 * 120 + 2 * 2 * 2.0 + 30), ({"http": {"deadline_s": 20}}, 50), ({"rollouts": {"settles_s": 5}}, 5)],
)
def test_a_request_counts_once_the_longest_one_has_ended(tmp_path: Path, keys: dict[str, Any], seconds: float) -> None:
    config = GraphConfig.model_validate(echo_graph(tmp_path).model_dump() | keys)
    assert settles_after_s(config) == seconds
