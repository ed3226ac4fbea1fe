"""`batch run --passes --provider-batches` on Ray Data: an own cheap tier, and a hosted last one by its batches."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import ray

from router_models.estimators.routers import LengthRouter
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cluster.batches.passes.ray_passes import RayPasses
from tests.cluster.load.test_pass_kills import LONG, by_logprobs
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.passes.mixed_run import mixed_tiers, run_mixed
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply

ROWS = 60


@pytest.mark.full
@pytest.mark.timeout(600)
def test_rows_of_an_own_tier_go_through_ray_and_those_of_a_hosted_one_through_its_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "none")
    server = ProviderServer(echo_reply, looks=2, ends=["expired"], answered=11)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, by_logprobs(), None)})
    version.save(tmp_path / "state" / "builtin" / "builtin-uncertified")
    rows = [{"n": n, "prompt": f"question {n}" + (LONG if n % 3 == 0 else "")} for n in range(ROWS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with listening(server.app) as url:
        cheap, frontier = mixed_tiers(url, ("frontier",))
        graph = {"tiers": [cheap | {"skill": 0.5}, frontier], "policy": {"version": "builtin"}}
        (tmp_path / "graph.yaml").write_text(json.dumps(graph | {"state_folder": str(tmp_path / "state")}))
        try:
            summary = run_mixed(tmp_path, lambda plan: RayPasses(plan, logical_cpus=4), budget_usd=100.0)
        finally:
            ray.shutdown()
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (summary["answered"], summary["failed"], summary["left"]) == (ROWS, 0, 0)
    outcomes = Counter((row["serve_graph_tier"], row["serve_graph_outcome"]) for row in found)
    assert set(outcomes) == {("cheap", "accepted"), ("frontier", "routed"), ("frontier", "escalated")}
    hosted = [row for row in found if row["serve_graph_tier"] == "frontier"]
    assert all(row["answer"] == f"m-frontier: {row['prompt']}" for row in hosted)
    assert server.sizes == [len(hosted), len(hosted) - 11]
    assert (len(server.paid), set(server.paid.values())) == (len(hosted), {1})
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in found) == Decimal(summary["total_usd"])
