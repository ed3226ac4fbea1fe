"""`label` through a pipe, interrupted and gone on with, by two people; then `certify --labels` makes the version."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.risk_control.certificates.risks import HARM_RISK
from router_models.training.labelling.plan import LabelPlan, LabelTask, Question
from router_models.training.labelling.records import read_label_file
from router_models.training.labelling.session import LabelSession
from router_models.types.exchange import LOGPROB_NAMES
from serve_graph.cli import app
from serve_graph.cli.offline.label_terminal import Keys, keys_of, plain, question_text
from tests.fixtures.registry import echo_graph_file

PRICES = {"cheap": (0.1, 0.2), "frontier": (1, 2)}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Path:
    """A configuration, 1000 outcomes that a judge graded, and a candidate that was trained on them."""
    folder = tmp_path_factory.mktemp("labels")
    new_registry(folder / "state" / "mlflow.db")
    echo_graph_file(folder, PRICES, epsilon=0.3, delta=0.1)
    rng, n = np.random.default_rng(0), 1000
    p = np.sqrt(rng.random(n))
    columns: dict[str, Any] = {
        "prompt": [f"Question {i}: what comes after {i * i}?" for i in range(n)],
        "cheap": rng.random(n) < p,
        "frontier": rng.random(n) < 0.97,
        "label_source": "judge:j",
    }
    columns |= {f"{tier}_answer": [f"{tier} \x1b[2J {i}" for i in range(n)] for tier in PRICES}
    columns |= {f"{tier}|{name}": np.log(np.maximum(p, 0.01)) for tier in PRICES for name in LOGPROB_NAMES}
    columns |= {f"{tier}_{count}_tokens": 20 for tier in PRICES for count in ("prompt", "completion")}
    pd.DataFrame(columns).to_parquet(folder / "outcomes.parquet")
    given = ["--router", "surface", "--verifier", "logprob", "--promise", "accepted"]
    trained = call(
        "train", "-c", folder / "graph.yaml", "-o", folder / "outcomes.parquet", "--out", folder / "c", *given
    )
    assert trained.exit_code == 0, trained.output
    return folder


def call(*words: object, keys: str = "") -> Any:
    return CliRunner().invoke(app, list(map(str, words)), input=keys)


def label(made: Path, file: str, keys: str, *words: object, outcomes: Path | None = None) -> Any:
    given = ["--candidate", made / "c", "--labels", made / file, "-c", made / "graph.yaml", *words]
    return call("label", outcomes or made / "outcomes.parquet", *given, keys=keys)


def certify(made: Path, file: str, *words: object) -> Any:
    given = ["-c", made / "graph.yaml", "-o", made / "outcomes.parquet", "--candidate", made / "c"]
    return call("certify", *given, "--engines-as-configured", "--labels", made / file, *words)


def test_labels_are_kept_gone_on_with_and_certify_as_soon_as_they_prove_it(workshop: Path) -> None:
    begun = label(workshop, "a.jsonl", "r r\nw u r s q rrr", "--json")
    assert begun.exit_code == 0, begun.output
    told = json.loads(begun.stdout)
    assert (told["labelled"], told["against"], told["skipped"], told["proved"]) == (4, 1, 1, None)
    assert "frontier" not in begun.stderr
    assert "cheap \ufffd" in begun.stderr, "an answer's control characters do not reach the terminal"
    early = certify(workshop, "a.jsonl")
    assert early.exit_code == 1
    assert "not proved by the labels so far" in str(early.exception)
    done = label(workshop, "a.jsonl", "r" * 300)
    assert "everything that was to be proved is proved" in done.stdout
    plan, records = read_label_file(workshop / "a.jsonl")
    assert (len(plan.thresholds) >= 1, plan.look_index, plan.label_source) == (True, 1, "human")
    made = json.loads(certify(workshop, "a.jsonl", "--json").stdout)["certificate"]
    assert (made["threshold"], made["label_source"], made["round"]) == (plan.thresholds[-1], "human", 1)
    assert made["streamed"]["proved"] == made["streamed"]["tried"] == len(plan.thresholds)
    assert made["streamed"]["stopped_at"] == made["accepted_n"] <= made["n"] <= len(records) < 120
    assert made["binds"], "it is bound like every other"
    shown = certify(workshop, "a.jsonl").stdout
    assert f"human labels, streamed: {made['streamed']['labelled']} rows labelled, stopped at" in shown


def test_a_file_of_labels_may_be_the_only_look_and_spend_all_of_delta(
    workshop: Path, tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    new_registry(tmp_path / "state" / "mlflow.db")
    graph = yaml.safe_load((workshop / "graph.yaml").read_text()) | {"state_folder": str(tmp_path / "state")}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(graph))
    own: list[Any] = ["-c", tmp_path / "graph.yaml"]
    begun = label(workshop, "only.jsonl", "rq", "--looks", "1", *own)
    assert begun.exit_code == 0, begun.output
    assert "the only look at these prompts: δ 0.1 for it" in begun.stderr
    plan, _ = read_label_file(workshop / "only.jsonl")
    assert (plan.look_index, plan.level) == (0, plan.delta)
    assert label(workshop, "only.jsonl", "r" * 600, "--looks", "1", *own).exit_code == 0, "going on is no look"
    made = certify(workshop, "only.jsonl", *own)
    assert "all of δ 0.1 in one look at these labels" in made.stdout
    again = label(workshop, "other.jsonl", "rq", *own)
    assert "spent the whole δ of these labels (--looks 1)" in str(again.exception)
    new_registry(tmp_path / "next" / "mlflow.db")
    own[1].write_text(yaml.safe_dump(graph | {"state_folder": str(tmp_path / "next")}))
    label(workshop, "second.jsonl", "rq", *own)
    late = label(workshop, "second.jsonl", "rq", "--looks", "1", *own)
    assert "its part of δ is fixed" in str(late.exception)
    assert "certify nothing" in str(call("label", workshop / "outcomes.parquet", "--looks", "1").exception)


def test_two_people_label_the_same_answers_and_what_they_dispute_is_settled(workshop: Path) -> None:
    label(workshop, "before.jsonl", "q")
    label(workshop, "b.jsonl", "rrrrq", "--labeller", "ann")
    bob = label(workshop, "b.jsonl", "rrwrq", "--labeller", "bob")
    assert "ann and bob agree on 75% of 4 answers, Cohen's kappa 0.00" in bob.stdout
    assert "0 skipped and 1 disputed answer counts against the promise" in bob.stdout
    settled = json.loads(label(workshop, "b.jsonl", "rrrr", "--adjudicate", "--labeller", "eve", "--json").stdout)
    assert (settled["disputed"], settled["against"], settled["labellers"]) == (0, 0, ["ann", "bob", "eve"])
    looks = [read_label_file(workshop / name)[0].look_index for name in ("before.jsonl", "b.jsonl")]
    assert looks[1] == looks[0] + 1, "another file is another look at the prompts"


def test_harm_is_labelled_by_both_answers_and_certified_in_the_same_way(workshop: Path) -> None:
    asked = label(workshop, "h.jsonl", "w", "--promise", "harm")
    assert asked.exit_code == 0, asked.output
    first = asked.stderr.split("PROMPT")[1]
    assert "ANSWER A" in first
    assert "ANSWER B" in first
    assert "Is answer A right?" in first, "one key for each of the two"
    label(workshop, "h.jsonl", "w" + "r" * 600)
    plan, records = read_label_file(workshop / "h.jsonl")
    assert {record.tier for record in records} == set(PRICES)
    made = json.loads(certify(workshop, "h.jsonl", "--promise", "harm", "--json").stdout)["certificate"]
    assert made["what"] == HARM_RISK
    assert (made["errors"], made["streamed"]["proved"]) == (0, len(plan.thresholds)), "both wrong: no harm"


def test_what_was_fixed_before_the_first_label_is_not_changed_afterwards(workshop: Path) -> None:
    label(workshop, "f.jsonl", "r" * 300)
    first, _, rest = (workshop / "f.jsonl").read_text().partition("\n")
    for change in ({"level": 0.1, "look_index": 0}, {"thresholds": [0.1]}, {"label_source": "programmatic"}):
        (workshop / "g.jsonl").write_text(json.dumps(json.loads(first) | change) + "\n" + rest)
        refused = certify(workshop, "g.jsonl")
        assert refused.exit_code == 1
        assert "is not what the registry noted then" in str(refused.exception)
    assert "begun for labels of human" in str(label(workshop, "f.jsonl", "q", "--label-source", "judge:j").exception)
    assert label(workshop, "f.jsonl", "q").exit_code == 0


def test_a_scripts_labels_are_its_own(workshop: Path) -> None:
    label(workshop, "s.jsonl", "r" * 300, "--label-source", "judge:j2")
    made = json.loads(certify(workshop, "s.jsonl", "--json").stdout)["certificate"]
    assert made["label_source"] == "judge:j2"


def test_what_cannot_be_labelled_or_certified_is_refused_in_a_sentence(workshop: Path, tmp_path: Path) -> None:
    def said(done: Any) -> str:
        assert done.exit_code == 1, done.output
        return " ".join(str(done.exception).split())

    assert "'x' is no key (r right" in said(label(workshop, "c.jsonl", "rx"))
    assert len(read_label_file(workshop / "c.jsonl")[1]) == 1, "what came before is kept"
    assert "begun for epsilon 0.3, not 0.1" in said(label(workshop, "c.jsonl", "r", "--epsilon", 0.1))
    assert "begun for delta 0.1, not 0.2" in said(certify(workshop, "c.jsonl", "--delta", 0.2))
    assert "without --max-drop, --prefix" in said(certify(workshop, "c.jsonl", "--max-drop", 0.1, "--prefix", 4))
    assert "--labeller needs a name" in said(label(workshop, "c.jsonl", "r", "--labeller", " "))
    assert "two tiers" in said(label(workshop, "n.jsonl", "r", "--promise", "answered"))
    assert "no threshold is likely" in said(label(workshop, "n.jsonl", "r", "--epsilon", 0.01))
    assert "write human, programmatic" in said(label(workshop, "n.jsonl", "r", "--label-source", "me"))
    assert not (workshop / "n.jsonl").exists(), "nothing was begun, and no look was spent"
    frame = pd.read_parquet(workshop / "outcomes.parquet")
    for name, changed, words in (
        ("fewer", frame.iloc[::2], "the outcomes are not those that the labels were given for"),
        ("silent", frame.assign(cheap_answer=""), "hold no answers of tier 'cheap'"),
    ):
        changed.to_parquet(tmp_path / f"{name}.parquet")
        assert words in said(label(workshop, "c.jsonl", "r", outcomes=tmp_path / f"{name}.parquet"))
    (workshop / "d.jsonl").write_text("what is this\n")
    assert "not a file of labels" in said(label(workshop, "d.jsonl", "r"))


def test_keys_come_one_by_one_and_a_pipe_that_ends_quits() -> None:
    keys = keys_of(StringIO("r \n W"))
    assert isinstance(keys, Keys)
    assert [keys.read() for _ in range(4)] == ["r", "W", "q", "q"]
    assert plain("a\tb\n\x1b[31m\u202ec") == "a\tb\n\ufffd[31m\ufffdc"


def test_a_question_says_what_the_prompt_was_asked_under_and_of_which_of_two_answers_it_asks() -> None:
    plan = LabelPlan("harm", ("cheap", "top"), 0.2, 0.1, 0.1, 1, (0.5,), (0.02,), "human", "c", "r", 1, "2026-01-05")
    asked = Question("k", "Why?", {"top": "so", "cheap": ""}, "turns 2, decoding temperature=0.7")
    text = question_text(LabelSession(LabelTask(plan, (asked,), np.array([0.9])), (), "ann", 0), asked, "cheap")
    for part in (
        "asked under: turns 2",
        "ANSWER A\nso",
        "ANSWER B\n(empty)",
        "Is answer B right?",
        "1 is left",
    ):
        assert part in text
    assert "cheap" not in text
