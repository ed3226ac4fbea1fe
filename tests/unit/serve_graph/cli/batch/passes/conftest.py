"""Datasets and graphs of echo tiers for runs in passes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.estimators.routers import LengthRouter
from router_models.estimators.routers.base import RouterModel
from router_models.estimators.verifiers import NonEmptyVerifier, VerifierModel
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.passes.provider_passes import BatchedPassTerms
from serve_graph.cli.batch.providers.batched_tiers import check_batched
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.pass_rows import RowPieces, RowProgress
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.config.graph import GraphConfig
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.passes.mixed_run import mixed_tiers
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply

LONG = " many words" * 300
"""What makes a prompt that goes to the last tier at once."""


def echo_config(
    folder: Path,
    accept_at: float = 0.5,
    verifier: VerifierModel | None = None,
    router: RouterModel | None = None,
    **more: Any,
) -> GraphConfig:
    """Two echo tiers and a version: short prompts go to the cheap one, whose answers score 1, or by `verifier`;
    with a `router`, those that it says.
    """
    prices = {"cheap": (1, 2), "frontier": (10, 20)}
    tiers = [
        {"name": name, "engine": "echo", "price": {"input_usd_per_mtok": put, "output_usd_per_mtok": made}}
        for name, (put, made) in prices.items()
    ]
    config = GraphConfig.model_validate(
        {"tiers": tiers, "state_folder": folder / "state", "policy": {"version": "builtin"}} | more
    )
    stages = {"cheap": Stage(router or LengthRouter(), None, verifier or NonEmptyVerifier(), None)}
    policy = Policy(config.tier_names, {"cheap": OperatingPoint(0.2, accept_at)})
    encoder = Encoder() if router is not None and router.needs_embeddings else None
    RouterVersion(policy, stages, encoder=encoder).save(
        config.state_folder.resolve() / "builtin" / "builtin-uncertified"
    )
    return config


class WatchedPasses(LocalPasses):
    """Passes that count which rows each tier was asked, and break off where `breaks` says so."""

    asked: dict[str, list[str]]
    breaks: Callable[[str, int], None]

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        for number, progress in enumerate(super().answer(tier, chunks)):
            self.asked.setdefault(tier, []).extend(row.key for row in progress)
            self.breaks(tier, number)
            yield progress


@pytest.fixture
def in_passes(tmp_path: Path) -> Callable[..., Any]:
    """`in_passes(rows, config)`: a run over these rows; gives the summary, the written rows, and who was asked."""

    def run(
        rows: list[dict[str, Any]], config: GraphConfig, *, batch_rows: int = 8, make: Any = None, **options: Any
    ) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, list[str]]]:
        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        breaks = options.pop("breaks", lambda tier, number: None)
        say = options.pop("say", lambda text: None)
        asked: dict[str, list[str]] = {}

        def watched(plan: Any) -> WatchedPasses:
            made = WatchedPasses(plan)
            made.asked, made.breaks = asked, breaks
            return made

        chosen = BatchOptions("", out, **options)
        batches = None
        if chosen.provider_batches:
            batches = BatchedPassTerms(check_batched(config, chosen.interactive), 0.02, 0.02, chosen.concurrency)
        given: dict[str, Any] = {"records": chosen.records, "make": make or watched, "batches": batches}
        passes = OwnPasses(config, chosen.settings, tmp_path, batch_rows, **given)
        summary = run_batch(Dataset.found([str(source)]), chosen, say, passes)
        found = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        return summary, found, asked

    return run


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    monkeypatch.setenv("API_KEY", "none")
    server = ProviderServer(echo_reply)
    with listening(server.app) as url:
        server.url = url
        yield server


@dataclass
class Mixed:
    """`mixed(rows, hosted, …)`: a run over these rows, as `in_passes`; the first one makes the graph."""

    in_passes: Callable[..., Any]
    url: str
    folder: Path
    config: GraphConfig | None = None

    def __call__(self, rows: list[dict[str, Any]], hosted: tuple[str, ...] = ("frontier",), **given: Any) -> Any:
        graph = {name: given.pop(name) for name in ("accept_at", "verifier", "signals") if name in given}
        tiers = mixed_tiers(self.url, hosted, **given.pop("api", {}))
        self.config = self.config or echo_config(self.folder, tiers=tiers, **graph)
        return self.in_passes(rows, self.config, provider_batches=True, **{"concurrency": 1000, **given})


@pytest.fixture
def mixed(in_passes: Callable[..., Any], provider: ProviderServer, tmp_path: Path) -> Mixed:
    return Mixed(in_passes, provider.url, tmp_path)


def questions(count: int, every: int = 4) -> list[dict[str, Any]]:
    """Rows of which each `every`-th goes to the last tier at once."""
    return [{"n": n, "prompt": f"question {n}" + (LONG if n % every == 0 else "")} for n in range(count)]
