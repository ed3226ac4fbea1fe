"""What picks come to: the cheaper tier's win rate over the dearer one's, with an interval, from the records."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from router_models.types import DecisionRecord
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.learning.judging.ensemble.win_rate import ensemble_results
from serve_graph.records.store import DecisionStore

ROOT = Path(__file__).parents[6]
Records = Callable[..., DecisionRecord]


def entry(result: str, **more: Any) -> dict[str, Any]:
    picked = "frontier" if result == "last" else "cheap"
    found = {"picked": picked, "tie": result == "tie", "by": "judge:critic/m", "sure": 1.0, "said": {}}
    return {"share": 0.1, "tiers": ["cheap", "frontier"], "judge": "critic", "usd": "0.01", **found, **more}


def records_of(a_record: Records, results: list[str], prefix: str = "p") -> list[DecisionRecord]:
    return [
        a_record(f"dec-{prefix}{n}", prompt_sha256=f"{prefix}{n}", evidence={"ensemble": entry(one)})
        for n, one in enumerate(results)
    ]


def test_wins_ties_and_losses_make_a_rate_with_an_interval(a_record: Records) -> None:
    [found] = ensemble_results(records_of(a_record, ["cheap"] * 30 + ["tie"] * 40 + ["last"] * 30))
    rate, no_worse = found.win_rate(), found.no_worse()
    assert rate is not None
    assert no_worse is not None
    assert rate.value == pytest.approx(0.5)
    assert no_worse.value == pytest.approx(0.7)
    assert rate.low < 0.5 < rate.high
    assert 0.1 < rate.high - rate.low < 0.2
    assert found.shown()["picks"] == {"cheap": 30, "tie": 40, "last": 30}
    assert found.shown()["usd"] == "1.00"


def test_the_same_result_of_a_few_has_a_width_and_of_none_no_figure(a_record: Records) -> None:
    [few] = ensemble_results(records_of(a_record, ["cheap"] * 5))
    rate = few.win_rate()
    assert rate is not None
    assert (rate.value, rate.high) == (1.0, pytest.approx(1.0, abs=0.01))
    assert rate.low < 0.8
    why = {"tiers": ["cheap", "frontier"], "judge": "critic", "why_not": "judge: critic failed: 500", "usd": "0"}
    failed = a_record("dec-1", evidence={"ensemble": why})
    [none] = ensemble_results([failed])
    assert none.win_rate() is None
    assert dict(none.not_picked) == {"judge": 1}


@pytest.mark.parametrize("truth", [(0.2, 0.5, 0.3), (0.05, 0.15, 0.8)])
def test_intervals_hold_what_they_promise(a_record: Records, truth: tuple[float, ...]) -> None:
    rng, inside, n = np.random.default_rng(0), 0, 200
    for _ in range(n):
        drawn = [("cheap", "tie", "last")[i] for i in rng.choice(3, size=60, p=truth)]
        [found] = ensemble_results(records_of(a_record, drawn))
        rate = found.win_rate()
        assert rate is not None
        inside += rate.low <= truth[0] + truth[1] / 2 <= rate.high
    assert inside >= 0.91 * n, "95 % of 200, less three standard errors"


def test_a_prompt_that_comes_again_and_again_counts_once(a_record: Records) -> None:
    again = [
        a_record(f"dec-a{n}", prompt_sha256="same", evidence={"ensemble": entry("last" if n % 2 else "cheap")})
        for n in range(50)
    ]
    [found] = ensemble_results([*again, *records_of(a_record, ["cheap"] * 3)])
    assert (found.prompts, found.picks.total()) == (4, 53)
    rate = found.win_rate()
    assert rate is not None
    assert rate.value == pytest.approx(3.5 / 4)


def test_requests_that_asked_for_it_are_counted_apart_and_judges_too(a_record: Records) -> None:
    records = records_of(a_record, ["cheap"] * 3)
    records.append(a_record("dec-x", prompt_sha256="x", evidence={"ensemble": entry("last", asked_for=True)}))
    records.append(a_record("dec-y", prompt_sha256="y", evidence={"ensemble": entry("last", judge="reward:critic")}))
    records.append(a_record("dec-z", evidence={}))
    first, second = ensemble_results(records)
    assert (first.pair, dict(first.picks), first.asked_for) == (("cheap", "frontier", "critic"), {"cheap": 3}, 1)
    assert (second.pair[2], dict(second.picks)) == ("reward:critic", {"last": 1})


@pytest.fixture
def config(tmp_path: Path, a_record: Records) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text((ROOT / "configs" / "echo.yaml").read_text() + f"state_folder: {tmp_path}\n")

    async def keep() -> None:
        store = DecisionStore(load_config(path).records_url)
        await store.write_many(records_of(a_record, ["cheap", "tie", "last", "last"]))
        await store.close()

    asyncio.run(keep())
    return path


def test_the_command_reads_the_store(config: Path) -> None:
    shown = CliRunner().invoke(app, ["decisions", "ensemble", "--config", str(config)])
    assert shown.exit_code == 0, shown.output
    assert "cheap against frontier, critic picking: 4 picks of 4 prompts: 1 cheap, 1 tie, 2 frontier" in shown.stdout
    assert "win rate of cheap, ties half: 37.5 %" in shown.stdout
    told = CliRunner().invoke(app, ["decisions", "ensemble", "--json", "-c", str(config)])
    [found] = json.loads(told.stdout)
    assert found["picks"] == {"cheap": 1, "tie": 1, "last": 2}
    assert found["win_rate"]["low"] < 0.375 < found["win_rate"]["high"]
    none = CliRunner().invoke(app, ["decisions", "ensemble", "--version", "other/9", "-c", str(config)])
    assert none.stdout.strip() == "no request was put to both tiers"
