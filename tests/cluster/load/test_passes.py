"""`batch run --passes` on Ray Data: rows through actors of their own, one of which dies on a row."""

import json
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import ray

from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.ray_passes import RayPasses, TierActor
from serve_graph.config.graph import GraphConfig

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
