from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router_models.types import Call, DecisionRecord, Usage
from serve_graph.cluster.load.expected_calls import LEAST, ExpectedCalls, ExpectedLoad
from serve_graph.cluster.tier_client import HandleEngine

Record = Callable[..., DecisionRecord]


def calls(*tiers: str) -> tuple[Call, ...]:
    return tuple(Call(tier, Usage(1, 1), 1.0, Decimal(0)) for tier in tiers)


def test_nothing_is_expected_before_enough_calls_were_seen(a_record: Record) -> None:
    expected = ExpectedCalls()
    for _ in range(LEAST - 1):
        expected.note(a_record(calls=calls("cheap", "frontier")))
    assert expected.expected({"cheap": 8.0, "frontier": 0.0}) == {"cheap": 0.0, "frontier": 0.0}
    expected.note(a_record(calls=calls("cheap", "frontier")))
    assert expected.expected({"cheap": 8.0, "frontier": 0.0}) == {"cheap": 0.0, "frontier": pytest.approx(8.0)}


def test_the_share_that_was_escalated_lately_is_what_is_expected(a_record: Record) -> None:
    expected = ExpectedCalls(kept=100)
    for i in range(400):
        expected.note(a_record(calls=calls("cheap", "frontier") if i % 4 == 0 else calls("cheap")))
    assert expected.probability("cheap", "frontier") == pytest.approx(0.25, abs=0.01)
    assert expected.probability("frontier", "cheap") == 0.0
    for _ in range(400):
        expected.note(a_record(calls=calls("cheap", "frontier")))
    assert expected.probability("cheap", "frontier") > 0.98, "what was long ago is forgotten"


def test_a_ladder_expects_of_each_tier_what_may_follow_it(a_record: Record) -> None:
    expected = ExpectedCalls()
    for i in range(400):
        expected.note(a_record(calls=calls("small", "medium", "large") if i % 2 else calls("small", "large")))
    found = expected.expected({"small": 10.0, "medium": 4.0, "large": 1.0})
    assert found["small"] == 0.0
    assert found["medium"] == pytest.approx(5.0, abs=0.1)
    assert found["large"] == pytest.approx(5.0 + 4.0, abs=0.1)


def test_several_attempts_at_one_tier_are_one_call_of_it(a_record: Record) -> None:
    expected = ExpectedCalls()
    for _ in range(2 * LEAST):
        expected.note(a_record(calls=calls("cheap", "cheap", "frontier", "frontier")))
    assert expected.probability("cheap", "frontier") == pytest.approx(1.0)
    assert expected.probability("cheap", "cheap") == 0.0


@dataclass
class Kept:
    records: list[DecisionRecord] = field(default_factory=list)
    fails: bool = False

    def write(self, record: DecisionRecord) -> None:
        if self.fails:
            raise OSError("disk full")
        self.records.append(record)


def engine(in_flight: int, queued: int) -> HandleEngine:
    gate: Any = SimpleNamespace(in_flight=in_flight, queue=[None] * queued)
    return cast(HandleEngine, SimpleNamespace(gate=gate))


def test_an_ingress_says_what_waits_for_a_tier_and_what_is_expected_of_those_before_it(a_record: Record) -> None:
    sink = Kept()
    load = ExpectedLoad(sink, {"cheap": engine(6, 2), "frontier": engine(1, 3)})
    for i in range(100):
        load.write(a_record(f"dec-{i}", calls=calls("cheap", "frontier") if i % 2 else calls("cheap")))
    assert len(sink.records) == 100
    stats = load.stats()
    assert stats["expected:cheap"] == 2.0
    assert stats["expected:frontier"] == pytest.approx(3.0 + 8.0 / 2, abs=0.1)
    assert all(isinstance(value, float) for value in stats.values())


def test_a_record_that_could_not_be_written_is_the_callers_to_hear_of(a_record: Record) -> None:
    with pytest.raises(OSError, match="disk full"):
        ExpectedLoad(Kept(fails=True), {}).write(a_record())
