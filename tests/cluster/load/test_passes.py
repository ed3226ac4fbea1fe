"""`batch run --passes` on Ray Data: rows through actors of their own, one of which dies on a row."""

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import ray

from router_models.estimators.routers import LengthRouter
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.cluster.batches.passes.ray_passes import RayPasses, TierActor
from serve_graph.config.graph import GraphConfig, load_config
from tests.cluster.load.counted_passes import pay
from tests.cluster.load.test_pass_kills import LONG, by_logprobs

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


class DyingActor(TierActor):
    """An actor whose process ends on a row that says so, whichever process it is."""

    async def __call__(self, table: Any) -> Any:
        if any("poison" in body for body in table.column("body").to_pylist()):
            os._exit(1)
        return await super().__call__(table)


@pytest.fixture
def config(tmp_path: Path) -> GraphConfig:
    tiers = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
    found = {"tiers": tiers, "state_folder": tmp_path / "state", "policy": {"version": "builtin"}}
    return GraphConfig.model_validate(found)


@pytest.fixture
def passes() -> Iterator[type[RayPasses]]:
    class Dying(RayPasses):
        tier_actor = DyingActor

    yield Dying
    ray.shutdown()


@pytest.mark.full
@pytest.mark.timeout(600)
def test_with_a_budget_no_piece_waits_for_one_that_is_not_there(
    config: GraphConfig, passes: type[RayPasses], tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(40)))
    for budget, left in ((0.0003, True), (1.0, False)):
        options = BatchOptions("", tmp_path / "out.jsonl", budget_usd=budget)
        own = OwnPasses(config, options.settings, tmp_path, 8, make=lambda plan: passes(plan, logical_cpus=4))
        began = time.monotonic()
        summary = run_batch(Dataset.found([str(source)]), options, lambda _: None, own)
        assert time.monotonic() - began < 250, "the next piece waited for what the first one cost, and was waited for"
        assert (summary["failed"], bool(summary["left"]), bool(summary["stopped"])) == (0, left, left)
        assert Decimal(summary["total_usd"]) <= Decimal(str(budget))
        assert not left or summary["answered"] > 10
        ray.shutdown()


@pytest.mark.full
def test_rows_go_through_ray_data_and_one_that_kills_its_worker_fails_alone(
    config: GraphConfig, passes: type[RayPasses], tmp_path: Path
) -> None:
    rows = [{"prompt": f"question {n}"} for n in range(48)]
    rows[20]["prompt"] = "poison"
    rows[21]["prompt"] += " [echo:slow=2]"
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = BatchOptions("", out)
    own = OwnPasses(config, options.settings, tmp_path, 8, make=lambda plan: passes(plan, logical_cpus=4))
    summary = run_batch(Dataset.found([str(source)]), options, lambda _: None, own)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [n for n, row in enumerate(found) if row["serve_graph_status"] != "200"] == [20]
    assert "its worker died" in found[20]["serve_graph_error"]
    assert all(row["answer"] == f"echo cheap: {row['prompt']}" for n, row in enumerate(found) if n != 20)
    assert (summary["answered"], summary["failed"], summary["left"]) == (47, 1, 0)


class PayingActor(TierActor):
    """An actor that notes what it answered, in a file of its process, in the folder of its run."""

    async def __call__(self, table: Any) -> Any:
        made = await super().__call__(table)
        log = Path(os.environ["PAID_FOLDER"]) / f"{os.getpid()}.paid"
        pay(log, self.worker.tier.name, table.column("key").to_pylist())
        return made


class PayingRay(RayPasses):
    tier_actor = PayingActor


def paid(folder: Path) -> Counter[str]:
    return Counter(line for log in folder.glob("*/*.paid") for line in log.read_text().splitlines())


def noted(journal: Path) -> int:
    """Rows that the cheap tier was paid for, by the journal: some of them wait for the last one."""
    with closing(sqlite3.connect(journal)) as db:
        answered = db.execute("SELECT count(*) FROM answers WHERE tier = 'cheap' OR outcome = 'escalated'").fetchone()
        waiting = db.execute("SELECT count(*) FROM under_way WHERE CAST(cost_usd AS REAL) > 0").fetchone()
    return int(answered[0] + waiting[0])


@pytest.mark.full
@pytest.mark.timeout(900)
def test_several_workers_pay_out_of_one_purse_and_a_larger_one_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling = {"max_replicas": 3, "num_cpus": 0.5}
    tiers = [
        {"name": name, "engine": "echo", "latency_s": 1.0, "skill": skill, "scaling": scaling,
         "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 2 * usd}}
        for name, usd, skill in (("cheap", 1, 0.5), ("frontier", 10, 1.0))
    ]  # fmt: skip
    graph = {"tiers": tiers, "state_folder": str(tmp_path / "state"), "policy": {"version": "builtin"}}
    (tmp_path / "graph.yaml").write_text(json.dumps(graph))
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, by_logprobs(), None)})
    version.save(tmp_path / "state" / "builtin" / "builtin-uncertified")
    config, rows = load_config(tmp_path / "graph.yaml"), 300
    source = tmp_path / "in.jsonl"
    prompts = (f"question {n}" + (LONG if n % 3 == 0 else "") for n in range(100, 100 + rows))
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))

    def run(name: str, make: Any, piece: int, budget: Decimal | None = None) -> dict[str, Any]:
        options = BatchOptions("", tmp_path / name, budget_usd=None if budget is None else float(budget))
        own = OwnPasses(config, options.settings, tmp_path, piece, make=make)
        return run_batch(Dataset.found([str(source)], out=options.out), options, lambda _: None, own)

    def on_ray(budget: Decimal) -> dict[str, Any]:
        paying = tmp_path / f"up to {budget}"
        paying.mkdir()
        monkeypatch.setenv("PAID_FOLDER", str(paying))
        try:
            return run("out.jsonl", lambda plan: PayingRay(plan, logical_cpus=8), 4, budget)
        finally:
            ray.shutdown()

    journal = tmp_path / "out.jsonl.journal"
    whole = run("local.jsonl", LocalPasses, 64)
    with closing(sqlite3.connect(tmp_path / "local.jsonl.journal")) as db:
        chosen = "SELECT DISTINCT tier, outcome, cost_usd FROM answers"
        costs = {(tier, outcome): Decimal(cost) for tier, outcome, cost in db.execute(chosen)}
    assert set(costs) == {("cheap", "accepted"), ("frontier", "escalated"), ("frontier", "routed")}
    a_try, dear = costs["cheap", "accepted"], costs["frontier", "routed"]
    budget = a_try * 90 + a_try / 2  # of 200 that are tried, equally dear: to the row
    first = on_ray(budget)
    assert "at cheap" in first["stopped"]
    assert Decimal(first["total_usd"]) == a_try * 90
    assert sum(paid(tmp_path).values()) == noted(journal) == 90
    budget = Decimal(whole["total_usd"]) * 6 / 10
    second = on_ray(budget)
    assert "at frontier" in second["stopped"]
    assert budget - dear < Decimal(second["total_usd"]) <= budget
    assert sum(key.startswith("cheap ") for key in paid(tmp_path)) == noted(journal) == 200
    third = on_ray(Decimal(1000))
    assert max(Counter(log.parent for log in tmp_path.glob("*/*.paid")).values()) > 1, "several workers paid in a run"
    assert (third["answered"], third["failed"], third["left"], third["stopped"]) == (rows, 0, 0, None)
    assert Decimal(third["total_usd"]) == Decimal(whole["total_usd"])
    found = paid(tmp_path)
    assert set(found.values()) == {1}, "nothing is paid twice"
    outputs = [(tmp_path / name).read_text().splitlines() for name in ("out.jsonl", "local.jsonl")]
    columns = ("prompt", "answer", "serve_graph_tier", "serve_graph_cost_usd")
    told = [[[row[name] for name in columns] for row in map(json.loads, lines)] for lines in outputs]
    assert told[0] == told[1]
