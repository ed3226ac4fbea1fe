"""How many modules a request passes through, and how often it goes from one to another: at most so many.

Counted in process, by `sys.setprofile`: every time a function of ours is entered, or resumed after a wait, whose
module is another than the last one's is a switch. Two graphs: fakes behind the HTTP application, and the ingress with
the real deployments of router, verifier and echo tiers behind handles that call them directly.
Engines say three words.

BEFORE is what the same code counted at commit 9cdc42a. See docs/decisions/serving/0017. Since then one module,
and two switches, say what is promised of the delivered answer; a switch asks for its budget, in the graph one module
and two switches more for accounts; the graph serves a version with a coverage: two modules and two switches for
what a request asks and whether that is covered; and one module notes whether an answer's opening refuses or hedges.
"""

import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import router_models
import serve_graph
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Action, OperatingPoint
from router_models.types.coverage import Coverage
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cascade.fakes import FakeEngine, FakeJudge
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.validity import Validity
from tests.fixtures.upstream import DirectHandle

OURS = tuple(str(Path(str(package.__file__)).parent) for package in (serve_graph, router_models))
WORDS = "one two three"
Counts = tuple[int, int]  # modules, switches
BEFORE: dict[tuple[str, str], Counts] = {
    ("fakes", "accepted whole"): (34, 120),
    ("fakes", "accepted stream"): (36, 196),
    ("fakes", "escalated whole"): (34, 137),
    ("fakes", "escalated stream"): (36, 316),
    ("graph", "accepted whole"): (49, 180),
    ("graph", "accepted stream"): (51, 270),
    ("graph", "escalated whole"): (49, 208),
    ("graph", "escalated stream"): (51, 425),
}
# One module more where spans are opened, and one that learns how often calls are escalated; one to three switches
# since an accepted request is opened in one place for routes and for lines of batches; two where a request is seen to
# be plain text, in the graph five to seven where decisions that wait at the same time are embedded together. Three
# modules where the shape that a request declares is seen, whether its answer is judged at all, and who decided for the
# record; one where signals are read that take further calls, one where a router may have asked a tier before it chose;
# one that says what a tier's estimate decides, which a chain of tiers asks tier by tier. In the graph one that decides
# for several prompts at once (four switches), and one that keeps what a handle's methods were found to be; in streams
# one that makes a chunk of the texts that came together, which spares more switches than it takes.
CEILING: dict[tuple[str, str], Counts] = {
    ("fakes", "accepted whole"): (29, 93),
    ("fakes", "accepted stream"): (32, 133),
    ("fakes", "escalated whole"): (29, 108),
    ("fakes", "escalated stream"): (32, 201),
    ("graph", "accepted whole"): (56, 198),
    ("graph", "accepted stream"): (58, 240),
    ("graph", "escalated whole"): (56, 232),
    ("graph", "escalated stream"): (59, 290),
}


class Switches:
    """A profile function that counts."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.switches = 0
        self.last = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        module = frame.f_code.co_filename
        if event == "call" and module.startswith(OURS):
            self.modules.add(module)
            self.switches += module != self.last
            self.last = module


@asynccontextmanager
async def fakes(outcome: str, endpoint: Callable[..., Any], _: Path) -> AsyncIterator[FastAPI]:
    judge = FakeJudge(Action(outcome))
    yield endpoint(cheap=FakeEngine(WORDS), frontier=FakeEngine(WORDS), judge=judge, is_open=True).app


@asynccontextmanager
async def graph(outcome: str, _: Callable[..., Any], folder: Path) -> AsyncIterator[FastAPI]:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.cluster.policy_deployment import PolicyDeployment
    from serve_graph.policy.served_policy import ServedPolicy

    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    access = {"open": True}
    config = GraphConfig.model_validate({"tiers": tiers, "state_folder": folder, "access": access})
    point = OperatingPoint(0.0, 0.5 if outcome == "accepted" else 2.0)
    stage = Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)
    RouterVersion(Policy(config.tier_names, {"cheap": point}), {"cheap": stage}).save(folder / "version")
    policy = PolicyDeployment(VersionFiles("version/1", str(folder / "version"), Validity()))
    held = policy.held.loaded["version/1"].version
    served = replace(ServedPolicy.of(held, "version/1", "nothing", config), coverage=Coverage())
    handles: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.tiers}  # type: ignore[arg-type]
    ingress = IngressDeployment(
        config, ServedVersion(1, served), handles, DirectHandle(policy), DirectHandle(policy), b"x" * 16
    )  # type: ignore[arg-type]
    try:
        yield ingress.__serve_build_asgi_app__()
    finally:
        ingress.sink.close()
        await ingress.store.close()


async def counted(app: FastAPI, stream: bool) -> tuple[Counts, str]:
    """One request's counts, once everything has been imported, and its outcome.

    Of two requests the smaller ones: a task of the background is none of theirs. Nothing is collected meanwhile.
    """
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
    body = {"model": "auto", "messages": [{"role": "user", "content": WORDS}], "stream": stream}
    found: list[Counts] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.post("/v1/chat/completions", json=body)
        for _ in range(2):
            switches, before = Switches(), sys.getprofile()
            gc.disable()
            sys.setprofile(switches)
            try:
                response = await client.post("/v1/chat/completions", json=body)
            finally:
                sys.setprofile(before)
                gc.enable()
            found.append((len(switches.modules), switches.switches))
    assert response.status_code == 200
    assert WORDS.split()[0] in response.text
    return min(found), response.headers["x-serve-graph-outcome"]


@pytest.mark.parametrize("kind", ["whole", "stream"])
@pytest.mark.parametrize("outcome", ["accepted", "escalated"])
@pytest.mark.parametrize("over", [fakes, graph], ids=["fakes", "graph"])
async def test_a_request_passes_through_few_modules(
    over: Any, outcome: str, kind: str, endpoint: Callable[..., Any], tmp_path: Path
) -> None:
    async with over(outcome, endpoint, tmp_path) as app:
        found, became = await counted(app, kind == "stream")
    assert became == outcome
    case = (over.__name__, f"{outcome} {kind}")
    (modules, switches), (modules_before, switches_before) = found, BEFORE[case]
    print(
        f"{' '.join(case):24}  modules {modules_before} -> {modules} ({modules / modules_before:.0%})"
        f"  switches {switches_before} -> {switches} ({switches / switches_before:.0%})"
    )
    most_modules, most_switches = CEILING[case]
    assert modules <= most_modules
    assert switches <= most_switches
