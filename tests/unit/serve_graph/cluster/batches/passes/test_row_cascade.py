"""A row in passes goes the way of a request: the same tier, outcome, bill, and word on what is promised."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.types import Action, Call, Completion, Decision, PromptEmbedding, Query, Usage, Verdict
from router_models.types.coverage import Uncovered
from serve_graph.cascade import cascade
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.cascade.steps import Answered, Decided, Judged, PolicyFailed, RequestState, TierFailed
from serve_graph.cluster.batches.passes.pass_rows import PassRow, RowProgress, TierReply
from serve_graph.cluster.batches.passes.plan import checked_plan
from serve_graph.cluster.batches.passes.row_cascade import RowCascade
from serve_graph.cluster.batches.passes.row_story import RowStory
from serve_graph.errors import (
    CertificateVoidError,
    EngineError,
    EngineRequestError,
    PolicyUnavailableError,
    SaturatedError,
)
from tests.fixtures.registry import echo_graph, registered_version

NOW = datetime.now(UTC)
BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "what is it?"}]})


def reply_of(completion: Completion) -> dict[str, Any]:
    usage = completion.usage
    return {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": completion.text},
                "finish_reason": completion.finish_reason,
                "logprobs": {"content": [{"token": "", "logprob": x} for x in completion.token_logprobs]},
            }
        ],
        "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
    }


async def in_passes(rows: RowCascade, engines: dict[str, FakeEngine], body: str = BODY) -> RowProgress:
    """One row from pass to pass, each of which knows nothing but its text."""
    at = await rows.go(PassRow("key", body))
    for _ in range(4):
        if at.tier is None:
            return at
        try:
            given = reply_of(await engines[at.tier].generate(Query.from_prompt("what is it?")))
        except EngineRequestError as error:
            given = {"error": {"message": str(error), "code": 400}}
        except Exception as error:  # noqa: BLE001
            given = {"error": {"message": str(error), "code": 500}}
        at = await rows.go(PassRow("key", body, at.story), TierReply(at.tier, given, 0.0))
    raise AssertionError("the row never ended")


CASES: dict[str, dict[str, Any]] = {
    "accepted": {},
    "escalated": {"judge": FakeJudge(Action.ESCALATED)},
    "routed": {"decider": FakeDecider("frontier")},
    "abstained": {"judge": FakeJudge(Action.ABSTAINED)},
    "cheap fails": {"cheap": FakeEngine(error=EngineError("gone"))},
    "cheap refuses": {"cheap": FakeEngine(error=EngineRequestError("no"))},
    "both fail": {"cheap": FakeEngine(error=EngineError("x")), "frontier": FakeEngine(error=EngineError("y"))},
    "no router": {"decider": FakeDecider(error=PolicyUnavailableError("away"))},
    "no verifier": {"judge": FakeJudge(error=PolicyUnavailableError("away"))},
}


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
async def test_a_row_ends_as_a_request_does(tmp_path: Path, case: str) -> None:
    given = CASES[case]
    graph = echo_graph(tmp_path, version="builtin")
    rows = RowCascade(_plan(graph))
    engines = {
        "cheap": given.get("cheap") or FakeEngine("cheap says"),
        "frontier": given.get("frontier") or FakeEngine("frontier says"),
    }
    policies = {"decider": given.get("decider") or FakeDecider(), "judge": given.get("judge") or FakeJudge()}
    rows.service.context = replace(rows.service.context, **policies)
    end = await in_passes(rows, engines)
    state = RequestState()
    context = replace(rows.service.context, engines=engines, **policies)
    try:
        answer: str | None = (await cascade.answer(context, Query.from_prompt("what is it?"), None, state)).text
    except Exception:  # noqa: BLE001
        answer = None
    assert end.ok == (answer is not None)
    assert end.record is not None
    assert (end.record["tier"], end.record["outcome"]) == (state.tier, str(state.action))
    assert [(c["tier"], c["usage"]) for c in end.record["calls"]] == [
        (call.tier, {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 0, "cache_write_tokens": 0})
        for call in state.calls
    ]
    if answer is not None and state.action is not Action.ABSTAINED:
        assert end.result["answer"] == answer


def _plan(graph: Any) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:  # it runs a loop of its own
        return pool.submit(checked_plan, graph).result().plan


async def test_promised_as_requests_are_and_not_what_an_alarm_has_revoked(tmp_path: Path, new_registry: Any) -> None:
    graph = echo_graph(tmp_path)
    graph = graph.model_copy(update={"registry_uri": new_registry(graph.state_folder / "mlflow.db")})
    registered_version(graph, tmp_path / "version", NOW, alias="stable")
    plan = _plan(graph)
    engines = {"cheap": FakeEngine("yes"), "frontier": FakeEngine("yes, surely")}
    end = await in_passes(RowCascade(plan), engines)
    assert (end.result["tier"], end.result["promised"], end.result["not_promised"]) == ("cheap", True, None)
    end = await in_passes(RowCascade(replace(plan, revoked="labels contradict it")), engines)
    assert end.result["tier"] == "frontier"
    assert end.result["not_promised"] == "labels contradict it"
    end = await in_passes(RowCascade(plan), engines, json.dumps(json.loads(BODY) | {"model": "cheap"}))
    assert end.result["not_promised"] == "cheap was asked for by name"


async def test_a_row_that_no_route_would_take_is_refused_as_it_would(tmp_path: Path) -> None:
    rows = RowCascade(_plan(echo_graph(tmp_path, version="builtin")))
    for body, said in (("{", "JSON"), (json.dumps({"model": "nobody", "messages": []}), "messages")):
        end = await rows.go(PassRow("key", body))
        assert not end.ok
        assert end.result["status"] == 400
        assert said in end.result["error"]


def test_what_happened_to_a_row_is_the_same_after_a_pass() -> None:
    embedding = PromptEmbedding(b"\x01\x02", "encoder", np.array([0.25, -1.5], dtype=np.float32))
    decision = Decision("cheap", "why", 0.75, 0.5, True, None, Uncovered("novel", "far"), embedding)
    events = [
        Decided(decision),
        TierFailed(SaturatedError("full", recordable="its engine answered 429"), True),
        PolicyFailed(CertificateVoidError("expired")),
        PolicyFailed(PolicyUnavailableError("away")),
        Answered(Completion("text", "length", Usage(3, 4), (-0.5,))),
        Judged([Verdict(Action.ESCALATED, "no", 0.25, True, False)]),
    ]
    story = RowStory(list(events), [Call("cheap", Usage(3, 4), 0.5, 0)], [], True)  # type: ignore[arg-type]
    found = RowStory.from_json(RowStory.from_json(story.to_json()).to_json())
    decided = found.events[0]
    assert isinstance(decided, Decided)
    assert decided.decision == decision
    assert decided.decision.embedding is not None
    assert decided.decision.embedding.vector.tolist() == [0.25, -1.5]
    failed, void, away = found.events[1:4]
    assert isinstance(failed, TierFailed)
    assert (type(failed.error), failed.error.recordable, failed.may_serve_rejected) == (
        SaturatedError, "its engine answered 429", True,
    )  # fmt: skip
    assert isinstance(void, PolicyFailed)
    assert isinstance(away, PolicyFailed)
    assert isinstance(void.error, CertificateVoidError)
    assert not isinstance(away.error, CertificateVoidError)
    assert found.events[4] == Answered(Completion("text", "length", Usage(3, 4)))  # no later step reads logprobs
    assert found.events[5] == events[5]
    assert (found.unmetered, found.calls[0].usage) == (True, Usage(3, 4))
