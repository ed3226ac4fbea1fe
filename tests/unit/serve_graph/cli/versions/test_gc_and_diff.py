"""`versions gc` removes what can never serve again, nothing else; `versions diff` shows two versions side by side."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import OperatingPoint, Outcome, Usage
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.registry import list_versions, register
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cli import app

MODEL, PRICE = "serve-graph-router", {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
NOW = datetime.now(UTC)
LONG_AGO, SOON = NOW - timedelta(days=400), NOW + timedelta(days=9)
APPROVED, PROPOSED, REJECTED = ({"review": word} for word in ("approved", "proposed", "rejected"))
VERSIONS: list[tuple[datetime, dict[str, str], str | None]] = [
    (LONG_AGO, PROPOSED, None),
    (LONG_AGO, PROPOSED | {"replaced": "1"}, "stable"),
    (LONG_AGO, APPROVED, None),
    (SOON, PROPOSED, None),
    (NOW - timedelta(days=3), PROPOSED, None),
    (LONG_AGO, PROPOSED, None),
    (LONG_AGO, REJECTED, None),
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Path:
    """A state folder whose registry holds `VERSIONS`."""
    folder = tmp_path_factory.mktemp("versions")
    uri = new_registry(folder / "state" / "mlflow.db")
    for number, (expires, tags, alias) in enumerate(VERSIONS, 1):
        made = RouterVersion(
            Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.1 * number, 0.5)}),
            {tier: Stage(ConstantRouter(0.45), None, NonEmptyVerifier(), None) for tier in ("cheap", "frontier")},
        )
        proof = Certificate(
            what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=300, accepted_n=200, errors=number, upper=0.08,
            threshold=0.5, label_source=LabelSource.PROGRAMMATIC, made_at=expires - timedelta(days=90),
            expires_at=expires, binds={},
        )  # fmt: skip
        replace(made, certificate=proof).save(folder / f"v{number}")
        kept = folder / "artifacts"
        register(
            uri, MODEL, folder / f"v{number}", params={}, metrics={}, tags=tags, alias=alias, artifacts_folder=kept
        )
    return folder / "state"


def config(state: Path, **more: Any) -> Path:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    tiers[0]["price"] = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.2}
    path = state / "graph.yaml"
    path.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(state), **more}))
    return path


def gc(path: Path, *words: str) -> dict[str, str]:
    """What is done of each version that is not kept, by number."""
    done = CliRunner().invoke(app, ["versions", "gc", "--config", str(path), "--json", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    rows = json.loads(done.stdout)
    return {row["version"].rpartition("/")[2]: row["action"] for row in rows if row["action"] != "keep"}


def test_diff_shows_certificates_and_with_outcomes_flips_and_cost(state: Path, tmp_path: Path) -> None:
    path, table = config(state), tmp_path / "outcomes.parquet"
    words = ["versions", "diff", "4", "5", "--config", str(path)]
    shown = CliRunner().invoke(app, words).stdout
    assert f"{MODEL}/4" in shown
    assert "accepted on CERT" in shown
    assert "give labelled prompts with --outcomes" in shown
    write_outcomes(
        table,
        [
            Outcome(prompt_id(p), p, tier, "It is so", grade, Usage(10, 4), 0.1, "stop", {}, {})
            for p in (f"What colour is cat {i}?" for i in range(100))
            for tier, grade in (("cheap", 0.0), ("frontier", 1.0))
        ],
    )
    found = json.loads(CliRunner().invoke(app, [*words, "--outcomes", str(table), "--json"]).stdout)
    assert [side["errors"] for side in found["versions"]] == [4, 5]
    [flip] = found["diff"]["flips"]
    assert (flip["before"], flip["after"], flip["gained"]) == ("cheap", "frontier", flip["n"])
    assert flip["examples"][0].startswith("What colour")
    text = CliRunner().invoke(app, [*words, "--outcomes", str(table)]).stdout
    assert f"cheap → frontier: {flip['n']}, {flip['n']} gained, 0 lost" in text


def test_what_an_alias_a_rollback_a_configuration_or_a_running_graph_uses_stays(state: Path) -> None:
    assert gc(config(state)) == {"6": "would remove", "7": "would remove"}
    assert gc(config(state), "--older-than-days", "1") == dict.fromkeys(("5", "6", "7"), "would remove")
    assert gc(config(state, policy={"version": "7"})) == {"6": "would remove"}

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"ready": True, "version": f"{MODEL}/6"}).encode())

        def log_message(self, *_: Any) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        assert gc(config(state, http={"port": server.server_port})) == {"7": "would remove"}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nothing_is_removed_unless_asked_to_and_then_only_what_was_listed(state: Path, unused_tcp_port: int) -> None:
    path, uri = config(state, http={"port": unused_tcp_port}), f"sqlite:///{state / 'mlflow.db'}"
    gc(path)
    assert len(list_versions(uri, MODEL)) == len(VERSIONS)
    assert gc(path, "--delete") == {"6": "removed", "7": "removed"}
    assert [found.number for found in list_versions(uri, MODEL)] == ["5", "4", "3", "2", "1"]
    assert gc(path, "--delete") == {}
