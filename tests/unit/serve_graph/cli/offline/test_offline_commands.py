"""plan and simulate as typed: exit codes, JSON, pages; of them and evaluate, one line for what cannot be done."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.errors import DataError
from router_models.versions.sealed.builtin import builtin_version
from serve_graph.cli import app, main

PRICES = ["--price-weak", "0.1,0.4", "--price-strong", "2,8,1"]
NAMES = ["--weak", "cheap", "--strong", "frontier"]
PLAN = ["plan", "-o", "F", *NAMES, "--volume", "1", "--embeddings", "V"]
MIX = {
    "tiers": {
        "cheap": {"price": [0.15, 0.6, 0.075], "latency_s": {"p50": 0.6, "p95": 1.8}},
        "frontier": {"price": [2.5, 10], "token_ratio": 1.1, "batch": {"factor": 0.5, "share": 0.2}},
    },
    "signals": {"router_auc": 0.6, "verifier_auc": 0.8},
    "slices": [
        {
            "name": "faq",
            "share": 0.7,
            "weak_right": 0.9,
            "strong_right": 0.97,
            "input_tokens": 500,
            "output_tokens": 100,
        },
        {
            "name": "maths",
            "share": 0.3,
            "weak_right": 0.4,
            "strong_right": 0.9,
            "input_tokens": 300,
            "output_tokens": 400,
        },
    ],
}


def call(*words: object) -> Any:
    return CliRunner().invoke(app, list(map(str, words)))


def test_simulate_prints_a_table_and_the_same_figures_as_json(outcomes: Path, tmp_path: Path) -> None:
    words = [
        "simulate", "-o", outcomes, *NAMES, *PRICES, "--rate", "4", "--score", "max_token_confidence",
        "--accept-at", "0.8", "--requests", "300", "--repeats", "2", "--burst", "4,60,10",
        "--price-change", "30:frontier=4,16", "--trace", tmp_path / "new" / "trace.json",
    ]  # fmt: skip
    text = call(*words)
    assert text.exit_code == 0
    assert "always frontier" in text.stdout
    data = json.loads(call(*words, "--json").stdout)
    assert set(data["policies"]) == {"cascade", "always cheap", "always frontier"}
    assert len(data["policies"]["cascade"]) == 2
    assert data == json.loads(call(*words, "--json").stdout)
    assert json.loads((tmp_path / "new" / "trace.json").read_text())[0]["what"] == "arrive"


@pytest.mark.parametrize(
    "extra",
    [
        ["--pattern", "pre-route", "--route-at", "0.8"],
        ["--pattern", "ensemble", "--score", "max_token_confidence", "--accept-at", "0.7", "--samples", "3"],
        ["--pattern", "random", "--strong-share", "0.3"],
        ["--pattern", "length", "--strong-share", "0.3"],
    ],
)
def test_every_pattern_can_be_replayed(outcomes: Path, extra: list[str]) -> None:
    words = ["simulate", "-o", outcomes, *NAMES, *PRICES, "--rate", "2", "--requests", "100", "--repeats", "1"]
    assert call(*words, *extra).exit_code == 0


def test_a_router_version_can_be_replayed(outcomes: Path, tmp_path: Path) -> None:
    folder = builtin_version(("cheap", "frontier"), tmp_path)
    words = ["simulate", "-o", outcomes, *NAMES, *PRICES, "--rate", "2", "--requests", "100", "--repeats", "1"]
    found = call(*words, "--version", folder, "--embeddings", outcomes.with_suffix(".npy"), "--json")
    assert found.exit_code == 0
    assert f"version {folder.name}" in json.loads(found.stdout)["policies"]


def test_a_version_with_a_tier_between_is_replayed_with_all_its_terms(outcomes: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(outcomes)
    for name in ("", "_prompt_tokens", "_completion_tokens", "_latency_s"):
        frame[f"middle{name}"] = frame[f"frontier{name}"]
    frame.to_parquet(tmp_path / "three.parquet")
    folder = builtin_version(("cheap", "middle", "frontier"), tmp_path)
    (tmp_path / "terms.yaml").write_text(yaml.safe_dump({"tiers": {"middle": {"price": [1, 4]}}}))
    words = ["simulate", "-o", tmp_path / "three.parquet", *NAMES, *PRICES, "--rate", "2", "--requests", "50"]
    words += ["--version", folder, "--terms", tmp_path / "terms.yaml", "--repeats", "1", "--json"]
    words += ["--embeddings", outcomes.with_suffix(".npy")]
    assert call(*words).exit_code == 2  # nobody said how much the middle tier serves at once
    data = json.loads(call(*words, "--slots", "middle=4").stdout)
    assert set(data["policies"][f"version {folder.name}"][0]["tiers"]) == {"cheap", "middle", "frontier"}


def test_a_plan_says_what_tiers_carry_under_a_version_that_is_there(outcomes: Path, tmp_path: Path) -> None:
    folder = builtin_version(("cheap", "frontier"), tmp_path)
    words = [
        "plan", "-o", outcomes, *NAMES, *PRICES, "--volume", "50000", "--embeddings", outcomes.with_suffix(".npy"),
        "--router", "surface", "--version", folder,
    ]  # fmt: skip
    assert call(*words).exit_code == 2, "it is about --capacity"
    *_, load = json.loads(call(*words, "--capacity", "10", "--json").stdout)["loads"]
    seconds = pd.read_parquet(outcomes)["cheap_latency_s"].mean()
    assert load["name"] == f"version {folder.name}"
    assert load["tiers"][0]["at_once"]["value"] == pytest.approx(10 * seconds * load["tiers"][0]["calls"], rel=0.2)


def test_plan_writes_a_page_and_prints_json(outcomes: Path, tmp_path: Path) -> None:
    words = [
        "plan", "-o", outcomes, *NAMES, *PRICES, "--volume", "50000", "--embeddings", outcomes.with_suffix(".npy"),
        "--router", "surface", "--label-usd", "0.1", "--out", tmp_path / "plan.md", "--json",
    ]  # fmt: skip
    found = call(*words)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["answer"]["headline"]
    text = (tmp_path / "plan.md").read_text()
    assert text.startswith("# Plan: cheap → frontier on outcomes.parquet")
    assert "serve-graph" in text


def test_a_traffic_mix_is_planned_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(MIX))
    found = call("plan", "--traffic", tmp_path / "mix.yaml", *NAMES, "--volume", "80000")
    assert found.exit_code == 0
    assert "if the assumed figures hold" in found.stdout
    assert "20% of calls at × 0.5" in found.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slices": [MIX["slices"][0]]}, "shares must sum to 1"),  # type: ignore[index]
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"slices": [{**MIX["slices"][0], "colour": 1}]}, "slices.0.colour"),  # type: ignore[index]
        ({"signals": {"router_auc": 0.6}}, "signals.verifier_auc: Field required"),
        ({"tiers": {"cheap": MIX["tiers"]["cheap"]}}, "no terms of tier 'frontier'"),  # type: ignore[index]
    ],
)
def test_a_faulty_mix_is_named_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(MIX | change))
    found = call("plan", "--traffic", tmp_path / "mix.yaml", *NAMES, "--volume", "80000")
    assert isinstance(found.exception, DataError)
    assert message in str(found.exception)


def test_the_documented_mix_and_terms_are_valid() -> None:
    from router_models.planning.inputs import read_tier_inputs, read_traffic_mix

    docs = Path(__file__).parents[5] / "docs" / "results" / "plans"
    assert len(read_traffic_mix(docs / "traffic-mix.yaml").slices) == 3
    assert read_tier_inputs(docs / "qa.yaml", "gpt-4o").output_tokens == 8
    assert read_tier_inputs(docs / "mmlu.yaml", "mixtral-8x7b").token_ratio == 1.15


def test_terms_may_come_from_a_file(outcomes: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.yaml").write_text(yaml.safe_dump({"tiers": MIX["tiers"]}))
    words = ["simulate", "-o", outcomes, *NAMES, "--rate", "2", "--requests", "50", "--repeats", "1"]
    cascade = ["--score", "max_token_confidence", "--accept-at", "0.8"]
    assert call(*words, *cascade, "--terms", tmp_path / "terms.yaml").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["simulate"],
        ["simulate", "-o", "F", *NAMES, "--rate", "2", *PRICES],
        ["simulate", "-o", "F", *NAMES, "--rate", "2", "--price-weak", "1", "--price-strong", "1,2"],
        ["simulate", "-o", "F", *NAMES, "--rate", "2", *PRICES, "--price-change", "soon"],
        ["plan", *NAMES, "--volume", "1"],
        ["plan", "-o", "F", *NAMES, "--volume", "1"],
        ["plan", "-o", "F", *NAMES, "--volume", "1", "--price-weak", "nan,1", "--price-strong", "1,2"],
        ["evaluate"],
        ["evaluate", "-o", "F"],
        ["evaluate", "--benchmark", "other", "--data", "x"],
        ["evaluate", "--all", ".", "--pair", "x"],
        ["evaluate", "-o", "F", *NAMES, "--slow", "100"],
        ["evaluate", "-o", "F", *NAMES, "--leave-one-out"],
    ],
)
def test_wrong_use_exits_with_two(words: list[str], outcomes: Path) -> None:
    assert call(*(str(outcomes) if word == "F" else word for word in words)).exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "-o", "missing.parquet", *NAMES], "no such file"),
        (["evaluate", "-o", "F", "--weak", "cheap", "--strong", "no", "--embeddings", "V"], "unknown tier(s) 'no'"),
        (["evaluate", "-o", "F", *NAMES, "--router", "x", "--embeddings", "V"], "unknown router families x"),
        (["evaluate", "-o", "F", *NAMES, "--hold-out", "x", "--embeddings", "V"], "no column 'x'"),
        (["evaluate", "--benchmark", "routellm", "--data", "."], "no RouteLLM responses"),
        (["simulate", "-o", "F", *NAMES, *PRICES, "--rate", "0", "--score", "x", "--accept-at", "1"], "arrival rate"),
        (["simulate", "-o", "F", *NAMES, *PRICES, "--rate", "1", "--score", "x", "--accept-at", "1"], "not recorded"),
        ([*PLAN, "--price-weak", "0,0", "--price-strong", "0,0"], "costs nothing"),
        ([*PLAN, "--price-weak", "9,9", "--price-strong", "1,1"], "dearer and no better"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line_and_exits_with_one(
    words: list[str], message: str, outcomes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"F": str(outcomes), "V": str(outcomes.with_suffix(".npy"))}
    monkeypatch.setattr(sys, "argv", ["serve-graph", *(places.get(word, word) for word in words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("serve-graph:")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_former_family_name_is_accepted_with_one_sentence(
    outcomes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "-o", str(outcomes), *NAMES, "--cascade", "--router", "asked"]
    monkeypatch.setattr(sys, "argv", ["serve-graph", *words])
    with pytest.raises(SystemExit):
        main()
    errors = capsys.readouterr().err
    assert errors.count("serve-graph: warning: the router family 'asked' is now called 'p-yes'") == 1
    assert "unknown router" not in errors
