"""A provider of batches, with a configuration of two tiers behind it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    """A provider whose batches two tiers use at half price, and a configuration without a version."""
    monkeypatch.setenv("API_KEY", "none")
    server = ProviderServer(echo_reply)
    with listening(server.app) as url:
        tiers = [
            {"name": name, "engine": "openai", "model": f"m-{name}", "base_url": f"{url}/v1", "api_key_env": "API_KEY",
             "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd, "batch_factor": 0.5},
             "default_max_tokens": 20}
            for name, usd in (("cheap", 100), ("frontier", 1000))
        ]  # fmt: skip
        given = {"tiers": tiers, "state_folder": str(tmp_path / "state"), "policy": {"version": "none"}}
        (tmp_path / "graph.yaml").write_text(yaml.safe_dump(given))
        rows = "".join(json.dumps({"id": n, "prompt": f"row {n % 5}"}) + "\n" for n in range(6))
        (tmp_path / "in.jsonl").write_text(rows)
        yield server
