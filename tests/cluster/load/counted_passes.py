"""A run in passes as a process of its own, for tests that kill it; and a Ray cluster for such runs.

    python -m tests.cluster.load.counted_passes head               # prints its address; until its input closes
    python -m tests.cluster.load.counted_passes FOLDER [--audit N] # rows.jsonl by graph.yaml; on Ray at $RAY_ADDRESS

Every answer that a tier gave is a line of FOLDER/paid.log before anybody else hears of it: what was paid.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.pass_rows import RowPieces, RowProgress
from serve_graph.cluster.batches.passes.passes import LocalPasses, Passes
from serve_graph.cluster.batches.passes.ray_passes import RayPasses, TierActor
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan
from serve_graph.config.graph import load_config

PIECE_ROWS = 8


def pay(log: Path, tier: str, keys: list[str]) -> None:
    """Note answers, all or none of them."""
    with log.open("ab", buffering=0) as file:
        file.write("".join(f"{tier} {key}\n" for key in keys).encode())


class CountingActor(TierActor):
    """An actor that notes what it answered."""

    async def __call__(self, table: Any) -> Any:
        made = await super().__call__(table)
        tier = self.worker.tier
        pay(Path(os.environ["PAID_LOG"]), tier.name, table.column("key").to_pylist())
        return made


class CountingRay(RayPasses):
    tier_actor = CountingActor


class CountingLocal(LocalPasses):
    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        for progress in super().answer(tier, chunks):
            pay(Path(os.environ["PAID_LOG"]), tier, [row.key for row in progress])
            yield progress


def head() -> None:
    import ray

    context = ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    print(context.address_info["gcs_address"], flush=True)
    sys.stdin.read()
    ray.shutdown()


def run(folder: Path, audit: int | None) -> None:
    os.environ["PAID_LOG"] = str(folder / "paid.log")
    config, options = load_config(folder / "graph.yaml"), BatchOptions("", folder / "out.jsonl", audit=audit)

    def make(plan: PassesPlan) -> Passes:
        address = os.environ.get("RAY_ADDRESS")
        return CountingLocal(plan) if address is None else CountingRay(plan, address)

    own = OwnPasses(config, options.settings, folder, PIECE_ROWS, make=make)
    found = run_batch(Dataset.found([str(folder / "rows.jsonl")]), options, lambda text: print(text, flush=True), own)
    told = {
        name: found[name] for name in ("rows", "answered", "failed", "left", "total_usd", "asked", "audited", "tokens")
    }
    (folder / "summary.json").write_text(json.dumps(told | {"tiers": found["tiers"]}))


if __name__ == "__main__":
    if sys.argv[1] == "head":
        head()
    else:
        run(Path(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 2 else None)
