"""`batch plan`: rates from a file, shares from a run's journal."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
