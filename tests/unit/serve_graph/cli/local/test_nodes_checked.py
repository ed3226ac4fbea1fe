"""`doctor` says of a cluster's configuration what `up` and `serve deploy` would refuse."""

from pathlib import Path
from typing import Any

import pytest

from serve_graph.cli.local.doctor import examine
from serve_graph.config.graph import GraphConfig

ECHO = {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}}


@pytest.mark.parametrize(
    ("nodes", "url", "ok", "said"),
    [
        ("one", None, True, "one"),
        ("several", None, False, "records.url: the decision store is SQLite"),
        ("several", "postgresql://graph@store/decisions", True, "several"),
    ],
)
def test_doctor_names_what_one_node_alone_has(
    nodes: str, url: str | None, ok: bool, said: str, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"tracking_uri": "file:///mnt/all/mlruns", "shared_folders": ["/mnt/all"]}
    config = GraphConfig.model_validate(
        {"tiers": [ECHO], "nodes": nodes, "state_folder": tmp_path, "records": {"url": url}, "access": {"open": True}}
        | {"policy": {"version": "none"}, "batches": {"enabled": False}}
        | shared
    )
    [finding] = [each for each in examine(config) if each.check == "nodes"]
    assert finding.ok is ok
    assert said in finding.detail
