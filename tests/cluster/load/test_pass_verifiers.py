"""Verifier models of vLLM in passes on Ray Serve: what a killed run leaves, and what a replica takes along."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import ray
from ray import serve

from serve_graph.cluster.batches import served_verifier
from serve_graph.cluster.batches.passes.tries import ROW_TRIES
from serve_graph.cluster.batches.passes.workers import TierWorker
from serve_graph.cluster.batches.served_verifier import (
    ENDING,
    PASSES_ROOT,
    _mark,
    application_of,
    asked_in_a_pass,
    begin_serve,
    forget_applications,
    serve_for,
    served_for_a_pass,
)
from serve_graph.cluster.proxy_address import root_path_of_serve, serve_runs
from serve_graph.config.judge import VllmVerifierConfig
from serve_graph.errors import ServeGraphError

pytestmark = [
    pytest.mark.full,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray Serve's own
]


class Critic:
    """Answers as a verifier model's deployment does."""

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"score": body["score"]}


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def serve_critic(name: str, route: str | None = None) -> None:
    critic: Any = serve.deployment(Critic).options(name="critic", ray_actor_options={"num_cpus": 0.1})
    serve.run(critic.bind(), name=name, route_prefix=route)


def test_what_a_killed_run_left_on_a_cluster_ends_and_nothing_else() -> None:
    mine, others = application_of("critic", "mine"), [application_of("critic", "other"), "graph"]
    forget_applications("mine")  # there is no Serve, and it starts none
    assert not serve_runs()
    begin_serve("other")
    begin_serve("mine")  # it uses the one that is there
    for name in (mine, *others):
        serve_critic(name)
    assert asyncio.run(asked_in_a_pass("critic", mine)({"score": 7})) == {"score": 7}
    forget_applications("mine")
    assert sorted(serve.status().applications) == sorted(others)
    serve.delete("graph")
    forget_applications("nobody")
    assert list(serve.status().applications) == others[:1]
    forget_applications("other")
    assert not serve_runs(), "the last of a killed run ends the Serve that a run started"
    begin_serve("other")
    forget_applications("mine")
    assert serve_runs(), "a run that has just begun has no application yet"
    forget_applications("other")
    assert not serve_runs(), "what was killed between Serve and its first application is no different"


def test_a_serve_that_an_operator_started_is_left_running_and_listening(wait_until: Callable[..., float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(proxy_location="HeadOnly", http_options={"port": port})
    begin_serve("killed")
    serve_critic(application_of("critic", "killed"))
    forget_applications("killed")
    assert serve_runs()
    assert not serve.status().applications
    serve_critic("graph", "/graph")

    def listens() -> bool:
        with suppress(HTTPError), urlopen(f"http://127.0.0.1:{port}/-/routes", timeout=30) as reply:
            return bool(json.load(reply) == {"/graph": "graph"})
        return False

    wait_until(listens, 30)


def test_a_run_that_ends_leaves_serve_to_one_that_is_about_to_start_on_it() -> None:
    begin_serve("other")
    serve_critic(application_of("critic", "other"))
    with serve_for("mine"):
        forget_applications("other")
        assert serve_runs(), "it was ended between what this run had found and its application"
        serve_critic(application_of("critic", "mine"))
    assert asyncio.run(asked_in_a_pass("critic", application_of("critic", "mine"))({"score": 7})) == {"score": 7}
    assert root_path_of_serve() == PASSES_ROOT + "other", "no Serve was begun by the way, with a proxy"
    forget_applications("mine")
    assert not serve_runs()


def test_a_run_starts_once_another_has_ended_serve() -> None:
    begin_serve("other")
    began = threading.Event()

    def start() -> None:
        with serve_for("mine"):
            began.set()
            serve_critic(application_of("critic", "mine"))

    starting = threading.Thread(target=start)
    with _mark(ENDING):
        starting.start()
        assert not began.wait(4.0)
        serve.shutdown()
    starting.join(120)
    assert root_path_of_serve() == PASSES_ROOT + "mine"
    assert list(serve.status().applications) == [application_of("critic", "mine")]
    forget_applications("mine")
    assert not serve_runs()


def test_a_serve_that_does_not_start_or_is_not_ended_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run: str) -> None:
        raise RuntimeError(f"no room for the controller of {run}")

    critic: Any = SimpleNamespace(name="critic")
    with monkeypatch.context() as patched:
        patched.setattr(served_verifier, "begin_serve", full)
        with (
            pytest.raises(RuntimeError, match="no room for the controller of mine"),
            served_for_a_pass(critic, cast("Any", None), "mine"),
        ):
            pass
    monkeypatch.setattr(served_verifier, "ENDS_WITHIN_S", 0.5)
    with (
        _mark(ENDING),
        pytest.raises(ServeGraphError, match=r"ending Ray Serve on this cluster for 0\.5 s"),
        served_for_a_pass(critic, cast("Any", None), "mine"),
    ):
        pass
    assert not serve_runs()


class DyingCritic(Critic):
    """Its process ends on the first row that says so, and on each that says always."""

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        mark = Path(body.get("once", "/"))
        if body.get("always") or not mark.exists():
            mark.touch()
            os._exit(1)
        return await super().generate(body)


async def test_rows_that_a_verifiers_replica_took_along_are_asked_again_and_fail_alone(tmp_path: Path) -> None:
    begin_serve("mine")
    critic: Any = serve.deployment(DyingCritic).options(name="critic", ray_actor_options={"num_cpus": 0.1})
    serve.run(critic.bind(), name=application_of("critic", "mine"), route_prefix=None)
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 0}
    model = {"name": "critic", "engine": "vllm", "weights": {"hub": "some/model"}, "price": price, "timeout_s": 60}
    verifier = VllmVerifierConfig.model_validate(model)
    worker = TierWorker(verifier, asked_in_a_pass("critic", application_of("critic", "mine")))
    worker.tries = replace(worker.tries, pause_s=0.1)
    asked = [{"score": n} for n in range(6)]
    asked[2] |= {"once": str(tmp_path / "died")}
    found = await worker(rows_of(asked))
    replies = [json.loads(reply) for reply in found["reply"]]
    assert [reply.get("score") for reply in replies] == list(range(6)), "no row is lost with the replica"
    assert [attempt["status"] for attempt in replies[2]["attempts"]] == [503, 200]
    [poisoned] = [json.loads(reply) for reply in (await worker(rows_of([{"always": True}])))["reply"]]
    assert poisoned["error"]["code"] == 503
    assert len(poisoned["attempts"]) == ROW_TRIES
    [after] = [json.loads(reply) for reply in (await worker(rows_of([{"score": 9}])))["reply"]]
    assert after["score"] == 9


def rows_of(bodies: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Rows each of which waits for one call."""
    none = [""] * len(bodies)
    calls = [json.dumps([0, body]) for body in bodies]
    return {"key": [str(n) for n in range(len(bodies))], "body": none, "story": none, "call": calls}
