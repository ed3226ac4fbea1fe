"""What outcomes, prices and budgets cannot support: every command says so in one line and exits 1, no traceback."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from serve_graph.cli import main

N = 200
PAIR = ["--weak", "cheap", "--strong", "frontier"]
PRICES = ["--price-weak", "0.1,0.4", "--price-strong", "2,8"]
CONFIG: dict[str, Any] = {
    "tiers": [
        {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}},
        {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 8}},
    ],
    "policy": {"version": "none", "safe_tier": "frontier"},
}
Change = Callable[[pd.DataFrame], pd.DataFrame]


def good(n: int = N) -> pd.DataFrame:
    """A wide table that every command can use."""
    chance = np.random.default_rng(0)
    right = chance.random(n) < 0.7
    frame: dict[str, Any] = {
        "prompt": [f"{'short' if r else 'rather long and winding'} question number {i}" for i, r in enumerate(right)],
        "cheap": right.astype(float),
        "frontier": (chance.random(n) < 0.95).astype(float),
        "cheap|confidence": np.where(right, 0.9, 0.2) + 0.05 * chance.random(n),
    }
    for tier in ("cheap", "frontier"):
        frame |= {f"{tier}_prompt_tokens": 50, f"{tier}_completion_tokens": 20}
    return pd.DataFrame(frame)


def without(*names: str) -> Change:
    return lambda frame: frame.drop(columns=list(names))


def having(**columns: Any) -> Change:
    return lambda frame: frame.assign(**columns)


def one_wrong(frame: pd.DataFrame, name: str, value: float) -> pd.DataFrame:
    frame = frame.copy()
    frame.loc[7, name] = value
    return frame


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    """Long, with one prompt graded twice for one tier."""
    parts = [
        pd.DataFrame({"prompt": frame["prompt"], "tier": tier, "grade": frame[tier], "prompt_tokens": 5,
                      "completion_tokens": 5})
        for tier in ("cheap", "frontier")
    ]  # fmt: skip
    return pd.concat([*parts, parts[0].head(1)])


ANY = {
    "no prompts": (without("prompt"), "no column 'prompt'; found: cheap"),
    "no such tier": (
        without("frontier", "frontier_prompt_tokens", "frontier_completion_tokens"),
        "unknown tier(s) 'frontier'; this file has: cheap",
    ),
    "no grades column": (
        without("frontier"),
        "column 'frontier_prompt_tokens' is there, but no column 'frontier' with the grades of that model",
    ),
    "grades off the scale": (having(cheap=3.0), "grade 3 is not in [0, 1]"),
    "infinite grade": (lambda f: one_wrong(f, "cheap", np.inf), "column 'cheap' is infinite in row 7"),
    "no grades": (having(frontier=np.nan), "column 'frontier' holds no grade at all"),
    "infinite confidence": (
        lambda f: one_wrong(f, "cheap|confidence", -np.inf),
        "column 'cheap|confidence' is infinite in row 7: clip it, or leave it empty where not measured",
    ),
    "an outcome twice": (twice, "row 400: a second outcome of tier 'cheap'"),
    "nothing": (lambda f: f.head(0), "holds no rows"),
}
TRAIN = {
    "one class": (having(cheap=1.0), "every grade of tier 'cheap' is 1: there is nothing to tell apart"),
    "too few": (lambda f: f.head(30), "30 prompts are graded for every tier; at least 60 are needed"),
    "no token counts": (without("cheap_prompt_tokens"), "outcomes of tier 'cheap' carry no token counts"),
    "one class, and numbers that are no grades": (
        having(cheap=1.0, words=31),
        "every grade of tier 'cheap' is 1: there is nothing to tell apart",
    ),
    "frontier no better": (
        lambda f: f.assign(cheap=f["frontier"], frontier=f["cheap"]),
        "'frontier' is dearer than 'cheap'",
    ),
}
PLAN = {
    "one class": (
        having(cheap=1.0),
        "every answer of 'cheap' is right: there is nothing to route; serve 'cheap' alone",
    ),
    "too few": (lambda f: f.head(30), "30 graded prompts: a plan needs at least 60"),
    "too few, and numbers that are no grades": (lambda f: f.head(30).assign(words=31), "30 graded prompts"),
    "no token counts": (without("cheap_prompt_tokens"), "no prompt_tokens of tier 'cheap'"),
}
EVALUATE = {
    "too few": (lambda f: f.head(4), "4 distinct prompts cannot be split into 5 folds"),
    "too few, and numbers that are no grades": (lambda f: f.head(4).assign(words=31), "cannot be split into 5 folds"),
}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command on a table and a configuration; the one line it ends with."""

    def run(command: str, table: pd.DataFrame, config: dict[str, Any] = CONFIG, more: Sequence[str] = ()) -> str:
        path, graph = tmp_path / "o.parquet", tmp_path / "graph.yaml"
        table.to_parquet(path)
        vectors = np.random.default_rng(0).normal(size=(len(set(table.get("prompt", ["x"]))), 8))
        np.save(path.with_suffix(".npy"), vectors.astype(np.float32))
        graph.write_text(yaml.safe_dump(config | {"state_folder": str(tmp_path / "state")}))
        words = {
            "train": ["--config", graph, "--out", tmp_path / "candidate"],
            "plan": [*PAIR, *PRICES, "--volume", "50000", "--embeddings", path.with_suffix(".npy")],
            "evaluate": [*PAIR, "--router", "surface", "--embeddings", path.with_suffix(".npy")],
            "certify": ["--config", graph, "--candidate", tmp_path / "candidate"],
        }[command]
        monkeypatch.setattr(sys, "argv", ["serve-graph", command, "-o", str(path), *map(str, words), *more])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        errors = [line for line in shown.splitlines() if line.startswith("serve-graph:")]
        assert len(errors) == 1
        return errors[0]

    return run


@pytest.mark.parametrize("command", ["train", "plan", "evaluate"])
@pytest.mark.parametrize(("change", "message"), ANY.values(), ids=ANY)
def test_every_command_names_what_is_wrong_with_a_table(
    refused: Any, command: str, change: Change, message: str
) -> None:
    assert message in refused(command, change(good()))


@pytest.mark.parametrize(
    ("command", "change", "message"),
    [
        pytest.param(command, change, message, id=f"{command}: {name}")
        for command, cases in (("train", TRAIN), ("plan", PLAN), ("evaluate", EVALUATE))
        for name, (change, message) in cases.items()
    ],
)
def test_outcomes_that_cannot_support_a_command_are_refused(
    refused: Any, command: str, change: Change, message: str
) -> None:
    assert message in refused(command, change(good()))


def priced(cheap: float, frontier: float) -> dict[str, Any]:
    tiers = [
        tier | {"price": {"input_usd_per_mtok": price, "output_usd_per_mtok": price}}
        for tier, price in zip(CONFIG["tiers"], (cheap, frontier), strict=True)
    ]
    return CONFIG | {"tiers": tiers}


@pytest.mark.parametrize(
    ("cheap", "frontier", "message"),
    [(0, 0, "'frontier' costs nothing at these prices"), (5, 1, "it is dearer and no better. Serve 'frontier' alone")],
)
def test_prices_at_which_nothing_can_be_saved_are_refused(
    refused: Any, cheap: float, frontier: float, message: str
) -> None:
    assert message in refused("train", good(), config=priced(cheap, frontier))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--price-weak", "0.1,0.4", "--price-strong", "0,0"], "'frontier' costs nothing at these prices"),
        (["--price-weak", "5,5", "--price-strong", "1,1"], "it is dearer and no better"),
        (["--epsilon", "0"], "epsilon must lie strictly between 0 and 1"),
        (["--delta", "2"], "delta must lie strictly between 0 and 1"),
        (["--acceptable", "nan"], "acceptable must lie in (0, 1]"),
        (["--scale", "1,0"], "from its lowest grade to its highest"),
    ],
)
def test_an_evaluation_at_impossible_terms_is_refused(refused: Any, words: list[str], message: str) -> None:
    assert message in refused("evaluate", good(), more=words)


@pytest.mark.parametrize("words", [["--benchmark", "routellm", "--data", "."], ["--all", "."]])
def test_a_reader_that_nothing_would_ask_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    def made(*_: object) -> Path:
        raise AssertionError("minutes of work")

    monkeypatch.setattr("serve_graph.cli.offline.evaluate._model_folder", made)
    monkeypatch.setattr(sys, "argv", ["serve-graph", "evaluate", *words, "--reader", "smollm2-135m-instruct"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "--reader requires --outcomes" in capsys.readouterr().err


def test_a_folder_of_sets_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve-graph", "evaluate", "--all", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["evaluate", "-o", "F"], ["plan", "-o", "F", "--volume", "1"], ["simulate", "-o", "F", "--rate", "1"]],
    ids=lambda words: words[0],
)
def test_routing_between_a_tier_and_itself_is_wrong_use(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve-graph", *command, "--weak", "cheap", "--strong", "cheap"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "name two different tiers" in " ".join(capsys.readouterr().err.split())


def test_a_negative_price_is_a_fault_of_the_configuration(refused: Any) -> None:
    assert "is not a valid configuration" in refused("train", good(), config=priced(-1, 1))


def test_a_folder_that_is_no_candidate_is_refused(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "candidate").mkdir()
    assert "candidate" in refused("certify", good())
