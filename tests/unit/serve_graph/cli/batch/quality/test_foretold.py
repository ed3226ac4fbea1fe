"""What a dry run says of all rows: misses by the certificate, time, and every tier alone, with intervals."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Compared
from router_models.risk_control.certificates.risks import HARM_RISK
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.quality.foretold import foretold_lines, foretold_misses, foretold_time
from serve_graph.cli.batch.running import BatchOptions, batch_summary_lines, run_batch
from serve_graph.cluster.batches.passes.passes import LocalPasses
from tests.fixtures.registry import echo_graph, registered_version

NOW = datetime.now(UTC)


def certificate(compared: Compared | None = None) -> Certificate:
    return Certificate(
        what=HARM_RISK, epsilon=0.1, delta=0.1, level=0.1, n=400, accepted_n=200, errors=6, upper=0.06, threshold=0.5,
        label_source="human", made_at=NOW, expires_at=NOW + timedelta(days=90), binds={}, compared=compared,
    )  # fmt: skip


@dataclass
class Done:
    asked: int
    once_s: float = 0.0


SAMPLE = [{"outcome": "accepted"}] * 60 + [{"outcome": "routed"}] * 30 + [{"outcome": "escalated"}] * 10
COMPARED = Compared(400, 200, 20, 6, 4, 0, (0.0, 0.0, 0.0), (0.5, 0.4, 0.6))


def test_misses_are_the_certificates_risk_of_the_share_that_cheap_tiers_answer() -> None:
    told = foretold_misses(SAMPLE, 10_000, (certificate(COMPARED), ""))
    assert told is not None
    assert told["kept"]["share"] == 0.6
    assert told["certified"]["at_most"] == pytest.approx(0.1 * told["kept"]["high"] * 10_000)
    assert told["harm"]["rows"] == pytest.approx(6 / 200 * 0.6 * 10_000)
    assert told["wrong"]["rows"] == pytest.approx(20 / 200 * 0.6 * 10_000)
    assert told["last_tier_wrong"]["count"] == 20 - 6 + 4
    for name in ("harm", "wrong", "last_tier_wrong"):
        assert told[name]["low"] < told[name]["rows"] < told[name]["high"]
    text = "\n".join(foretold_lines(told))
    assert "at most 697 of 10,000 rows" in text
    assert "wrong where the last tier is right: 6 of 200" in text


def test_intervals_hold_for_both_shares_together() -> None:
    """Certificate and sample drawn anew each time: the true number lies outside one in twenty times at most."""
    import numpy as np

    rng, missed, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        harmed, kept = int(rng.binomial(200, 0.05)), int(rng.binomial(100, 0.6))
        sample = [{"outcome": "accepted"}] * kept + [{"outcome": "routed"}] * (100 - kept)
        compared = Compared(400, 200, harmed, harmed, 0, 0, (0.0, 0.0, 0.0), (0.5, 0.4, 0.6))
        told = foretold_misses(sample, 1000, (certificate(compared), ""))
        assert told is not None
        missed += not told["harm"]["low"] <= 0.05 * 0.6 * 1000 <= told["harm"]["high"]
    assert missed <= 0.05 * trials


def test_what_is_not_known_is_said() -> None:
    assert foretold_misses([], 10, (None, "x")) is None
    told = foretold_misses(SAMPLE, 10, (None, "nothing is promised"))
    assert told is not None
    assert "not known: nothing is promised" in "\n".join(foretold_lines(told))
    told = foretold_misses(SAMPLE, 10, (certificate(), ""))
    assert told is not None
    assert "not recorded in this certificate" in "\n".join(foretold_lines(told))


def test_time_grows_with_rows_starts_or_batches() -> None:
    rows = foretold_time("rows", Done(10), 20.0, 100, [1.0, 3.0] * 5, 0)
    assert rows is not None
    assert rows["seconds"] == 200.0
    assert rows["low"] == pytest.approx(400.0 - rows["high"])
    assert 0 < rows["low"] < 200
    passes = foretold_time("passes", Done(10, once_s=15.0), 20.0, 100, [], 0)
    assert passes is not None
    assert (passes["low"], passes["high"]) == (15.0 + 50.0, 200.0)
    few = foretold_time("passes", Done(10, once_s=15.0), 20.0, 2, [], 0)
    assert few is not None
    assert few["low"] == few["seconds"] == few["high"] == 15.0 + 1.0, "engines start for two rows, too"
    batches = foretold_time("batches", Done(10), 20.0, 100, [], 2)
    assert batches is not None
    assert (batches["low"], batches["high"]) == (20.0, 2 * 86_400.0)
    assert foretold_time("rows", Done(0), 20.0, 100, [], 0) is None


def rows_in(folder: Path, n: int = 40, **more: Any) -> Dataset:
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"question {k}", **more}) + "\n" for k in range(n)))
    return Dataset.found([str(source)])


def test_a_dry_run_in_passes_says_what_is_promised_of_all_rows(tmp_path: Path, new_registry: Any) -> None:
    graph = echo_graph(tmp_path)
    graph = graph.model_copy(update={"registry_uri": new_registry(graph.state_folder / "mlflow.db")})
    registered_version(graph, tmp_path / "version", NOW, alias="stable")
    options = BatchOptions("", tmp_path / "out.jsonl", dry_run=10)
    passes = OwnPasses(graph, options.settings, tmp_path, 4, make=LocalPasses)
    told = run_batch(rows_in(tmp_path), options, lambda _: None, passes)
    assert told["foretold"]["certified"]["at_most"] == pytest.approx(0.1 * 40)  # all are kept, so up to all rows
    assert told["foretold"]["kept"]["count"] == 10
    assert 0 < told["time_left"]["low"] <= told["time_left"]["high"]
    text = "\n".join(batch_summary_lines(told))
    assert "certified: P(wrong | cheap accepted) <= 0.1 with 90 % confidence: at most 4 of 40 rows" in text
    assert "time: " in text


def test_over_http_the_graphs_configuration_has_its_certificate(
    served: Callable[..., Any], tmp_path: Path, new_registry: Any
) -> None:
    graph = echo_graph(tmp_path)
    new_registry(graph.state_folder / "mlflow.db")
    registered_version(graph, tmp_path / "version", NOW, alias="stable")
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    config = tmp_path / "graph.yaml"
    config.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(tmp_path / "state")}))
    at = served(judge=FakeJudge(), decider=FakeDecider("cheap"))
    told = run_batch(
        rows_in(tmp_path), BatchOptions(at.url, tmp_path / "out.jsonl", dry_run=10, config=config), lambda _: None
    )
    assert "would serve serve-graph-router/1" in told["foretold"]["why_not"]
    without = BatchOptions(at.url, tmp_path / "other.jsonl", dry_run=10)
    assert "--config" in run_batch(rows_in(tmp_path), without, lambda _: None)["foretold"]["why_not"]


def test_the_sample_is_asked_of_every_tier_alone_where_that_is_wanted(
    served: Callable[..., Any], tmp_path: Path
) -> None:
    config = tmp_path / "graph.yaml"
    config.write_text(
        "tiers:\n"
        "  - {name: cheap, engine: echo, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}\n"
        "  - {name: frontier, engine: echo, price: {input_usd_per_mtok: 10, output_usd_per_mtok: 20}}\n"
    )
    at = served(judge=FakeJudge(), decider=FakeDecider("cheap"), cheap=FakeEngine('{"number": "B-2"}'))
    rows = rows_in(tmp_path, grader="fields", reference={"fields": {"number": "A-1"}})
    options = BatchOptions(at.url, tmp_path / "out.jsonl", dry_run=8, config=config, compare=True)
    told = run_batch(rows, options, lambda _: None)
    assert {tier: one["measured"]["graded"] for tier, one in told["alone"].items()} == {"cheap": 8, "frontier": 8}
    assert told["alone"]["frontier"]["usd"] == pytest.approx(40 * 0.0002)
    assert told["alone"]["cheap"]["usd"] == pytest.approx(40 * 0.00002)
    assert len(at.sink.records) == 24
    text = "\n".join(batch_summary_lines(told))
    assert "all rows at frontier alone: $0.008" in text
    run_batch(rows, options, lambda _: None)
    assert len(at.sink.records) == 24, "each row once"
