"""`batch plan`: rates from a file, shares from a run's journal."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serve_graph.cli import app as whole
from serve_graph.cli.batch.command import app
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.asked_rates import PlannedSignals
from serve_graph.cli.batch.plan_command import read_rates
from serve_graph.errors import ServeGraphError
from serve_graph.policy.serving_version import Served
from tests.unit.serve_graph.cli.batch.passes.conftest import echo_config
from tests.unit.serve_graph.cli.batch.passes.mixed_run import mixed_tiers
from tests.unit.serve_graph.cli.batch.passes.test_asked_signals import config_of

EXAMPLE = Path("examples/batch_rates.yaml")
ENGINE = "{prompt_tokens_per_s: 900, completion_tokens_per_s: 90, prompt_tokens: 100, completion_tokens: 20}"
RATES = f"source: a test\ncheap: {ENGINE}\nlast: {ENGINE}\ntried: 0.5\naccepted: 0.5\ndecided_per_s: 10\n"


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
    """Two echo tiers, and the share of requests that the last one answers; no version, whatever is served here."""
    prices = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"name": name, "engine": "echo", "price": prices} for name in ("cheap", "frontier")]
    path = folder / "graph.yaml"
    own = {"state_folder": str(folder / "state"), "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    path.write_text(yaml.safe_dump({"tiers": tiers, "policy": {} if share is None else {"share": share}, **own}))
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
    assert read_rates(EXAMPLE, 10, None, without).work == read_rates(EXAMPLE, 10).work


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


def planned(folder: Path, text: str, *more: str) -> dict[str, Any]:
    (folder / "rates.yaml").write_text(text)
    words = ["plan", "1000", "--rates", str(folder / "rates.yaml"), "--gpus", "8", "--seeds", "1", "--json", *more]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.exception
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def test_the_calls_that_a_version_asks_for_are_counted_in_hours_dollars_and_tokens(tmp_path: Path) -> None:
    graph = tmp_path / "graph.yaml"
    config = config_of(tmp_path, "asked-first")
    graph.write_text(config.model_dump_json(exclude_unset=True))
    critics = "verifiers: {critic: {prompt_tokens_per_s: 4000, gpus: 0, load_s: 0}}\n"
    text = f"{RATES}usd_per_gpu_hour: 2\n"
    plain, found = planned(tmp_path, text), planned(tmp_path, text + critics, "-c", str(graph))
    asked = {(one["asked"], one["before"]): one for one in found["workload"]["asked"]}
    assert list(asked) == [
        ("the cheap tier", True), ("the cheap tier", False), ("the last tier", False), ("critic", False),
    ]  # fmt: skip
    first, about, word, critic = asked.values()
    assert set(first["signals"]) == {"p_yes", "first_token_entropy"}
    assert set(word["signals"]) == {"last_tier_verdict", "last_tier_likelihood"}
    assert about["engine"]["completion_tokens"] == 1 + 1 + 1 + 1 + 3 * 20, "four words, and three short answers"
    assert word["engine"]["prompt_tokens"] == 100 + 20 + 25 + 100 + 20
    assert critic["engine"]["prompt_tokens"] == 100 + 20
    (cascade, *alone), (without, *others) = found["ways"], plain["ways"]
    assert alone == others
    each = [one["engine"]["prompt_tokens"] for one in asked.values()]
    assert cascade["signal_tokens"][0] == pytest.approx(1000 * each[0] + 500 * sum(each[1:]))
    assert cascade["tokens"][0] == pytest.approx(without["tokens"][0] + cascade["signal_tokens"][0])
    assert cascade["hours"] > without["hours"] + 3 * 60 / 3600, "three more starts, and the calls"
    assert cascade["usd"] == pytest.approx(cascade["hours"] * 8 * 2 + 500 * 120 * 3e-6), "an API is paid, too"
    assert "builtin-uncertified asks for them" in found["signals"]
    assert plain["signals"].startswith("No calls for signals are counted: name the graph with --config")


def test_signals_that_the_rates_name_count_instead_of_the_versions(tmp_path: Path) -> None:
    graph = tmp_path / "graph.yaml"
    graph.write_text(config_of(tmp_path, "p-true").model_dump_json(exclude_unset=True))
    text = f"{RATES}signals: [last_tier_verdict]\nsignals_before_routing: [p_yes]"
    named = planned(tmp_path, text, "-c", str(graph))
    assert [(one["asked"], one["before"]) for one in named["workload"]["asked"]] == [
        ("the cheap tier", True), ("the last tier", False),
    ]  # fmt: skip
    assert planned(tmp_path, f"{RATES}signals: []", "-c", str(graph))["workload"]["asked"] == []
    (tmp_path / "rates.yaml").write_text(RATES)
    words = ["plan", "1000", "--rates", str(tmp_path / "rates.yaml"), "-c", str(graph), "--seeds", "1"]
    said = CliRunner().invoke(app, words).output
    assert "Calls for signals are passes of their own (builtin-uncertified asks for them): p_true of the cheap" in said


def test_a_version_that_may_not_serve_leaves_no_plan_that_forgets_its_calls(tmp_path: Path) -> None:
    refused = Served(None, None, "graph/3 is not approved", refused=True)
    with pytest.raises(ServeGraphError, match=r"graph/3 is not approved; mend that, or say them in the rates"):
        PlannedSignals.of(refused, config_of(tmp_path, "p-true"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cheap: {}", "must say in `source`"),
        ("source: x", "has no 'cheap'"),
        ("source: x\ncheap: {speed: 3}\nlast: {}", "speed"),
        ("source: [", "cannot be read"),
        (f"{RATES}signals: [mood]", "no signal that is asked for: mood"),
        (f"{RATES}signals: p_true", "`signals` is a list of signals, not 'p_true'"),
        (f"{RATES}signals_before_routing: [p_true]", "p_true cannot be asked for before routing"),
        (f"{RATES}signals: ['reward:critic']", r"nothing of the verifier model 'critic'\. Add `verifiers: {critic:"),
        (f"{RATES}signals: ['reward:critic']\nverifiers: [critic]", "`verifiers` names verifier models"),
        (f"{RATES}signals: ['reward:critic']\nverifiers: {{critic: 5}}", r"`verifiers\.critic` is an engine's rates"),
        (f"{RATES}spread: wide", "spread is a number, 0 or more, not 'wide'"),
        (f"{RATES}verifiers: {{critic: {{prompt_tokens_per_s: 5, gpus: 0}}}}", "critic has no GPU of its own"),
        (f"{RATES}verifiers: {{critic: {{batch_hours: 5}}}}", r"verifiers\.critic is asked call by call"),
        (RATES.replace("900", "0"), r"cheap\.prompt_tokens_per_s is a number above 0, not 0"),
    ],
)
def test_rates_that_say_too_little_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rates.yaml").write_text(text)
    with pytest.raises(ServeGraphError, match=said):
        read_rates(tmp_path / "rates.yaml", 10)


def test_a_hosted_last_tiers_batches_take_their_hours_at_their_price_and_no_gpu(tmp_path: Path) -> None:
    config = echo_config(tmp_path, tiers=mixed_tiers("http://127.0.0.1:9", ("frontier",)))
    graph = tmp_path / "graph.yaml"
    graph.write_text(config.model_dump_json(exclude_unset=True))
    text = RATES.replace(f"last: {ENGINE}", "last: {prompt_tokens: 100, completion_tokens: 20, batch_hours: 6}")
    text += "signals: [last_tier_verdict]\nusd_per_gpu_hour: 2\n"
    found = planned(tmp_path, text, "-c", str(graph))
    cascade, cheap, last = found["ways"]
    assert (last["hours"], last["usd"]) == (pytest.approx(6.0), pytest.approx(1000 * 120 * 1000e-6 / 2))
    own = cascade["hours"] - 6 - 6
    assert 0 < own < 1, "routing and the cheap tier; the word on its answers and the last tier take a batch each"
    tokens = cascade["signal_tokens"][0] + cascade["signal_tokens"][1] + 750 * 120
    assert cascade["usd"] == pytest.approx(own * 8 * 2 + tokens * 1000e-6 / 2)
    assert cheap["usd"] == pytest.approx(cheap["hours"] * 8 * 2)
    words = ["plan", "120000", "--rates", str(tmp_path / "rates.yaml"), "-c", str(graph), "--seeds", "1", "--gpus=8"]
    said = CliRunner().invoke(app, words).output
    assert "A provider's batch answers the last tier in 6 hours for each 50,000 rows (batch run --concurrency" in said
    assert "| 18.00 (" in said, "120,000 rows of it are three batches one after the other"
