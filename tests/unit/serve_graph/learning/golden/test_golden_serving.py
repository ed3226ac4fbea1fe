"""A graph asks its golden tasks in the background of an ingress replica; an alarm sends the next request elsewhere."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from router_models.data.starter import generate
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.monitoring.promise_watch import WatchedPromise
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cluster.ingress_deployment import IngressDeployment
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.validity import Validity
from tests.fixtures.upstream import DirectHandle
from tests.unit.serve_graph.learning.test_alarms_serving import BODY, client

SIZE = 12


class Model:
    """A tier's deployment: it knows the answers to the golden tasks until `knows` says otherwise."""

    def __init__(self) -> None:
        self.solutions = {task.prompt: task.solution for task in generate(SIZE, seed=0)}
        self.knows = True

    async def generate(self, body: dict[str, Any], timeout_s: float = 0.0) -> dict[str, Any]:
        text = self.solutions.get(body["messages"][-1]["content"], "hello") if self.knows else "I do not know."
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return {"object": "chat.completion", "model": "big", "choices": choices, "usage": usage}

    async def counters(self) -> dict[str, float]:
        return {}


async def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


async def test_a_model_that_forgets_its_golden_answers_revokes_what_is_served_and_says_why(tmp_path: Path) -> None:
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    golden = {"tiers": ["cheap"], "size": SIZE, "reference_runs": 3, "reference_every_s": 0, "poll_s": 0.02}
    settings = {"golden": {**golden, "every_s": 0.05}, "alarms": {"poll_s": 0.05}, "tickets": {"poll_s": 0.05}}
    config = GraphConfig.model_validate(
        {"tiers": tiers, "state_folder": tmp_path, "access": {"open": True}, **settings}
    )
    policy = Policy(config.tier_names, {"cheap": OperatingPoint(0.0, 0.5)})
    RouterVersion(policy, {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)}).save(tmp_path / "v")
    router: Any = DirectHandle(PolicyDeployment(VersionFiles("version/1", str(tmp_path / "v"), Validity())))
    served = ServedPolicy.of(RouterVersion.load(tmp_path / "v"), "version/1", "P(wrong) <= 0.1", config)
    served = replace(served, certified=True, promised=0.9, watched=WatchedPromise(0.1))
    cheap = Model()
    handles: Any = {"cheap": DirectHandle(cheap), "frontier": DirectHandle(Model())}
    ingress = IngressDeployment(config, ServedVersion(1, served), handles, router, router, b"x" * 16)
    running = asyncio.ensure_future(ingress.background())
    watch = ingress.golden
    assert watch is not None
    try:
        async with client(ingress.__serve_build_asgi_app__()) as at:
            await eventually(lambda: watch.metrics.runs["cheap", "compared"] > 0)
            assert (await at.post("/v1/chat/completions", json=BODY)).headers["x-serve-graph-tier"] == "cheap"
            cheap.knows = False
            await eventually(lambda: ingress.serving.certificate_status.revoked is not None)
            assert (await at.post("/v1/chat/completions", json=BODY)).headers["x-serve-graph-tier"] == "frontier"
            await eventually(lambda: bool(ingress.tickets.open))
            ready = (await at.get("/readyz")).json()
            assert ready["promise"].startswith("revoked by golden tasks: cheap answers worse than in its reference")
            assert [alarm["scope"] for alarm in ready["alarms"]] == ["golden_grades:cheap"]
            assert "golden_answers:cheap" in {ticket["figure"] for ticket in ready["tickets"]}
            metrics = (await at.get("/metrics")).text
            assert 'serve_graph_golden_runs_total{kind="reference",tier="cheap"} 3.0' in metrics
            assert "serve_graph_certificate_revoked 1.0" in metrics
            assert 'serve_graph_golden_evidence{tier="cheap"}' in metrics
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ingress.sink.close()
        await ingress.store.close()
