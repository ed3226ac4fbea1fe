"""Requests that end while a rollout is under way are handed over to be compared, as they came, and none other."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from router_models.types import Action, Query
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.errors import EngineError, EngineRequestError, SaturatedError
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.sessions import Sessions
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.paths import PathTaken, TierAnswers, path_of
from serve_graph.policy.labels import LabelRule
from serve_graph.policy.served_version import ServedRollout

Endpoints = Callable[..., Any]
CANDIDATE = "router/2"


@dataclass
class Taker:
    """Stands for a Comparer that takes what is drawn."""

    share: float = 1.0
    rates: list[float] = field(default_factory=list)
    taken: list[ComparedRequest] = field(default_factory=list)

    def draws(self, decision: str, rate: float) -> bool:
        self.rates.append(rate)
        return self.share > 0

    def offer(self, request: ComparedRequest) -> None:
        self.taken.append(request)


def comparing(
    at: Any, weight: float = 0.0, slicers: tuple[str | None, str | None] = (None, None), **taker: Any
) -> Any:
    """A shadow or canary, whose candidate escalates every cheap answer, beside what an endpoint serves."""
    kind: Any = "canary" if weight else "shadow"
    rollout = ServedRollout("rol-1", kind, weight, 0.25, candidate=None)  # type: ignore[arg-type]
    context = replace(at.context, version=CANDIDATE, judge=FakeJudge(Action.ESCALATED))
    stable, candidate = (RoutingContext(labels=None if name is None else LabelRule(name)) for name in slicers)
    at.service.routing = replace(stable, sessions=Sessions({"cheap": 60.0, "frontier": 60.0}, 10))
    at.service.comparer = Taker(**taker)
    at.service.try_beside(RolloutArms(rollout, context, candidate))
    return at


def no_calls() -> Any:
    return TierAnswers(None, {}, {})  # type: ignore[arg-type]


async def path(request: ComparedRequest, arm: Any) -> PathTaken:
    """A version's path with a request, over the answers that it has."""
    answers = replace(no_calls(), answers={"cheap": request.state.completion, "frontier": request.state.completion})
    return await path_of(request.context_of(arm), request.query, request.stream, answers)


async def test_a_drawn_request_is_handed_over_with_both_versions_whichever_answered(endpoint: Endpoints) -> None:
    for weight, arm, other in ((0.0, "stable", "candidate"), (1.0, "candidate", "stable")):
        for stream in (False, True):
            at = comparing(endpoint(), weight)
            await at.chat(stream=stream)
            [request] = at.service.comparer.taken
            assert (request.decision, request.rollout, request.probability) == (at.record.id, "rol-1", 0.25)
            assert (request.arm, request.other, request.weight) == (arm, other, weight)
            assert request.unit == at.record.evidence["rollout"]["unit"]
            assert (request.usd, request.last_tier) == (at.record.cost_usd, "frontier")
            assert (request.stream is not None) is stream
            assert (await path(request, "stable")).action == "accepted"
            assert (await path(request, "candidate")).action == "escalated"
            assert at.service.comparer.rates == [0.25]


async def test_a_session_is_one_group_and_without_one_so_is_a_prompt(endpoint: Endpoints) -> None:
    at = comparing(endpoint())
    for asked in ({"content": "a"}, {"content": "b"}, {"content": "a"}):
        await at.chat(**asked)
    for content in ("c", "d"):
        await at.chat(content=content, serve_graph={"session": "s1"})
    first, other, again, opened, went_on = [request.group for request in at.service.comparer.taken]
    assert (first, opened) == (again, went_on)
    assert len({first, other, opened}) == 3


async def test_what_no_version_decides_fails_or_is_not_drawn_is_not_compared(endpoint: Endpoints) -> None:
    failing = comparing(endpoint(frontier=FakeEngine(error=EngineError("down")), decider=FakeDecider("frontier")))
    await failing.chat()
    named, undrawn, over = comparing(endpoint()), comparing(endpoint(), share=0.0), comparing(endpoint())
    await named.chat(model="frontier")
    await undrawn.chat()
    over.service.try_beside(None)
    await over.chat()
    for at in (failing, named, undrawn, over):
        assert at.record
        assert at.service.comparer.taken == []


async def test_where_the_candidate_answers_everybody_its_failures_are_handed_over(endpoint: Endpoints) -> None:
    for error, status, taken in (
        (EngineError("down"), 503, [True]),
        (SaturatedError("full"), 429, [True]),
        (EngineRequestError("no such voice"), 400, []),
    ):
        at = comparing(endpoint(frontier=FakeEngine(error=error), decider=FakeDecider("frontier")), 1.0)
        await at.chat()
        assert at.record.status == status
        assert [request.failed for request in at.service.comparer.taken] == taken, error


async def test_a_request_that_outlives_its_rollout_is_not_compared_with_another(endpoint: Endpoints) -> None:
    at = comparing(endpoint())
    service = at.service
    request = service.open(Query.from_prompt("hello"), "auto", False)
    service.try_beside(replace(service.arms, rollout=replace(service.arms.rollout, id="rol-2")))
    await service.answer(request)
    assert service.comparer.taken == []


async def test_a_request_is_decided_anew_under_its_own_options_and_its_whole_time(endpoint: Endpoints) -> None:
    at = comparing(endpoint())
    await at.chat(serve_graph={"deadline_s": 20, "session": "s1"})
    [request] = at.service.comparer.taken
    served = at.service.routing
    for arm in ("stable", "candidate"):
        context = request.context_of(arm)
        assert (context.deadline.seconds, context.deadline.left_s) == (20.0, 20.0)
        assert context.constraints.session is None, "its session began with it"
        assert context.constraints.resolved.session == at.record.session
    await at.chat(serve_graph={"session": "s1"})
    second = at.service.comparer.taken[-1]
    assert second.context_of("candidate").constraints.session is not None
    assert served.sessions is at.service.arms.routing.sessions


async def test_it_is_in_the_slices_of_both_versions_or_in_one_by_its_language(endpoint: Endpoints) -> None:
    cases = {
        ("length", "domain"): ("short", "unknown"),
        ("length", "length"): ("short",),
        ("length", None): ("short",),
        (None, None): ("de",),
    }
    for slicers, expected in cases.items():
        at = comparing(endpoint(), slicers=slicers)
        await at.chat(content="Was ist der Sinn und wie nicht mit dem?")
        assert at.service.comparer.taken[0].slices() == expected, slicers
