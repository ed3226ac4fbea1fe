"""`batch plan`: rates from a file, shares from a run's journal."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serve_graph.cli import app as whole
from serve_graph.cli.batch.command import app
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.plan_command import read_rates
from serve_graph.errors import ServeGraphError

EXAMPLE = Path("examples/batch_rates.yaml")


def test_the_example_is_planned_for_each_number_of_gpus() -> None:
    found = CliRunner().invoke(app, ["plan", "100000", "--rates", str(EXAMPLE), "--gpus", "8,64", "--seeds", "1"])
    assert found.exit_code == 0, found.output
    assert "assumed, not measured" in found.output
    assert found.output.count("certified cascade, in passes") == 2


def test_shares_come_from_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.journal")
    for number, outcome in enumerate(["accepted"] * 6 + ["escalated"] * 2 + ["routed"] * 2):
        journal.note(str(number), True, {"outcome": outcome})
    journal.close()
    words = ["plan", "1000", "--rates", str(EXAMPLE), "--journal", str(tmp_path / "out.journal"), "--json"]
    work = json.loads(CliRunner().invoke(app, words).output)["workload"]
    assert (work["tried"], work["accepted"]) == (0.8, 0.75)


def graph_of_a_share(folder: Path, share: float | None) -> Path:
    """Two echo tiers, and the share of requests that the last one answers."""
    prices = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"name": name, "engine": "echo", "price": prices} for name in ("cheap", "frontier")]
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump({"tiers": tiers, "policy": {} if share is None else {"share": share}}))
    return path


def test_under_a_share_as_many_rows_are_tried_as_it_says_and_none_is_judged(tmp_path: Path) -> None:
    given = ["plan", "1000", "--rates", str(EXAMPLE), "--json", "-c"]

    def planned(*more: str) -> tuple[float, float]:
        found = CliRunner().invoke(app, [*given, str(graph_of_a_share(tmp_path, 0.3)), *more])
        work = json.loads(found.stdout)["workload"]
        return work["tried"], work["accepted"]

    assert planned() == (0.7, 1.0)
    journal = Journal(tmp_path / "out.journal")
    for number, tier in enumerate(["cheap"] * 6 + ["frontier"] * 4):
        journal.note(str(number), True, {"outcome": "routed", "tier": tier})
    journal.close()
    assert planned("--journal", str(tmp_path / "out.journal")) == (0.6, 1.0)
    with pytest.raises(ServeGraphError, match=r"under policy\.share name the graph with --config"):
        read_rates(EXAMPLE, 10, tmp_path / "out.journal")
    without = graph_of_a_share(tmp_path, None)
    assert read_rates(EXAMPLE, 10, None, without) == read_rates(EXAMPLE, 10)


def test_a_plan_of_thresholds_is_refused_where_a_share_decides(tmp_path: Path) -> None:
    words = ["plan", "--weak", "cheap", "--strong", "frontier", "--volume", "10", "--traffic", str(EXAMPLE)]
    found = CliRunner().invoke(whole, [*words, "-c", str(graph_of_a_share(tmp_path, 0.3))])
    assert "policy.share 0.3" in str(found.exception)


def test_capacity_is_that_of_the_share(tmp_path: Path) -> None:
    sizing = Path("docs/results/plans/capacity.yaml")

    def calls(share: float | None) -> list[float]:
        words = ["capacity", str(sizing), "--simulate", "0", "--json", "-c", str(graph_of_a_share(tmp_path, share))]
        found = CliRunner().invoke(whole, words)
        assert found.exit_code == 0, found.exception
        return [tier["calls"] for tier in json.loads(found.stdout)[0]["tiers"]]

    cheap, last = calls(0.25)
    assert cheap == pytest.approx(3 * last, rel=0.1)
    assert calls(None) != [cheap, last]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cheap: {}", "must say in `source`"),
        ("source: x", "has no 'cheap'"),
        ("source: x\ncheap: {speed: 3}\nlast: {}", "speed"),
        ("source: [", "cannot be read"),
    ],
)
def test_rates_that_say_too_little_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rates.yaml").write_text(text)
    with pytest.raises(ServeGraphError, match=said):
        read_rates(tmp_path / "rates.yaml", 10)
