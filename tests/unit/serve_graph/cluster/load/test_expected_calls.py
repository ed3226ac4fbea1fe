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
    assert expected.expected({"cheap": 8.0, "frontier": 0.0}, {}) == {"cheap": 8.0, "frontier": 0.0}
    expected.note(a_record(calls=calls("cheap", "frontier")))
    assert expected.expected({"cheap": 8.0, "frontier": 0.0}, {}) == {"cheap": 8.0, "frontier": pytest.approx(8.0)}


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
    found = expected.expected({"small": 10.0, "medium": 0.0, "large": 0.0}, {})
    assert found["small"] == 10.0
    assert found["medium"] == pytest.approx(5.0, abs=0.1)
    assert found["large"] == pytest.approx(5.0, abs=0.1)
    found = expected.expected({"small": 0.0, "medium": 4.0, "large": 0.0}, {})
    assert found["large"] == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(("cheap_s", "frontier_s"), [(2.0, 2.0), (1.0, 4.0), (3.0, 1.0), (2.0, None)])
def test_where_traffic_is_steady_no_more_is_expected_than_there_is(
    a_record: Record, cheap_s: float, frontier_s: float | None
) -> None:
    """Ten requests a second, two in five escalated, one in ten sent to the last tier at once."""
    expected = ExpectedCalls()
    paths = (("cheap", "frontier"),) * 4 + (("cheap",),) * 6 + (("frontier",),)
    for i in range(1100):
        expected.note(a_record(calls=calls(*paths[i % 11])))
    steady = {"cheap": 10 * cheap_s, "frontier": 5 * (frontier_s or cheap_s)}
    service_s = {"cheap": cheap_s, "frontier": frontier_s}
    assert expected.expected(steady, service_s)["frontier"] == pytest.approx(steady["frontier"], rel=0.03)
    twice = expected.expected({**steady, "cheap": 2 * steady["cheap"]}, service_s)["frontier"]
    assert twice == pytest.approx(steady["frontier"] + 4 * min(cheap_s, frontier_s or cheap_s), rel=0.05)
    assert expected.expected({**steady, "cheap": 0.0}, service_s)["frontier"] == steady["frontier"], "never fewer"


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


def engine(in_flight: int, queued: int, name: str) -> HandleEngine:
    gate: Any = SimpleNamespace(in_flight=in_flight, queue=[None] * queued, service_s=2.0)
    return cast(HandleEngine, SimpleNamespace(gate=gate, config=SimpleNamespace(engine_name=name)))


def test_an_ingress_says_what_a_tier_has_and_what_those_before_it_will_send(a_record: Record) -> None:
    sink = Kept()
    load = ExpectedLoad(sink, {"cheap": engine(6, 2, "cheap"), "frontier": engine(1, 3, "frontier")})
    for i in range(100):
        load.write(a_record(f"dec-{i}", calls=calls("cheap", "frontier") if i % 2 else calls("cheap")))
    assert len(sink.records) == 100
    stats = load.stats()
    assert stats["expected:cheap"] == 8.0
    assert stats["expected:frontier"] == pytest.approx(max(4.0, 8.0 / 2), abs=0.1)
    assert all(isinstance(value, float) for value in stats.values())


def test_an_engine_is_told_the_calls_of_all_tiers_that_it_answers_for() -> None:
    tiers = {"base": engine(3, 1, "base"), "tuned": engine(2, 0, "base"), "frontier": engine(1, 0, "frontier")}
    assert ExpectedLoad(Kept(), tiers).stats() == {"expected:base": 6.0, "expected:frontier": 1.0}


def test_a_record_that_could_not_be_written_is_the_callers_to_hear_of(a_record: Record) -> None:
    with pytest.raises(OSError, match="disk full"):
        ExpectedLoad(Kept(fails=True), {}).write(a_record())
