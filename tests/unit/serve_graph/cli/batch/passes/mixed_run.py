"""Graphs and runs in passes with a provider's batches, for tests and for processes that they kill.

python -m tests.unit.serve_graph.cli.batch.passes.mixed_run FOLDER    # in.jsonl by graph.yaml
"""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import MakePasses, OwnPasses
from serve_graph.cli.batch.passes.provider_passes import BatchedPassTerms
from serve_graph.cli.batch.providers.batched_tiers import check_batched
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.config.graph import load_config

PRICES = {"cheap": 100, "frontier": 1000}
A_REPLY = 14
"""Tokens of a reply that the provider gives."""
HALF = {tier: Decimal(A_REPLY * usd) / 10**6 / 2 for tier, usd in PRICES.items()}
"""What a reply of the provider costs in a batch, by tier."""


def mixed_tiers(url: str, hosted: tuple[str, ...], **more: Any) -> list[dict[str, Any]]:
    """Two tiers, those named behind a provider whose batches take half of the price; others are echo tiers."""
    tiers = []
    for name, usd in PRICES.items():
        tier: dict[str, Any] = {"name": name, "engine": "echo"}
        price: dict[str, Any] = {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd}
        if name in hosted:
            price["batch_factor"] = 0.5
            tier |= {"engine": "openai", "model": f"m-{name}", "base_url": f"{url}/v1", "api_key_env": "API_KEY"}
            tier |= more
        tiers.append(tier | {"price": price, "default_max_tokens": 20})
    return tiers


def run_mixed(folder: Path, make: MakePasses = LocalPasses, **options: Any) -> dict[str, Any]:
    """Answer in.jsonl of a folder by its graph.yaml; returns the summary."""
    config = load_config(folder / "graph.yaml")
    chosen = BatchOptions("", folder / "out.jsonl", provider_batches=True, **options)
    terms = BatchedPassTerms(check_batched(config), 0.02, 0.02)

    def answering(asked: BatchOptions) -> OwnPasses:
        return OwnPasses(config, asked.settings, folder, 8, make=make, batches=terms)

    dataset = Dataset.found([str(folder / "in.jsonl")], out=chosen.out)
    return run_batch(dataset, chosen, lambda _: None, make=answering)


def shown(row: dict[str, Any]) -> tuple[str, str]:
    return row["serve_graph_tier"], row["serve_graph_outcome"]


def costs(rows: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(row["serve_graph_cost_usd"]) for row in rows), Decimal(0))


if __name__ == "__main__":
    run_mixed(Path(sys.argv[1]))
