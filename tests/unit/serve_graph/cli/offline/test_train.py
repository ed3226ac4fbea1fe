"""From outcomes to `stable` as typed: collect's refusals, train, certify, and the review of versions."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.errors import LossError
from router_models.versions.registry import set_tags
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from serve_graph.policy.serving_version import serving_version

N = 900
REVIEW = ("--by", "anna", "--reason", "read the report")


def call(*words: object) -> Any:
    return CliRunner().invoke(app, list(map(str, words)))


def done(*words: object) -> str:
    found = call(*words)
    assert found.exit_code == 0, found.output
    return str(found.stdout)


def refused(*words: object) -> str:
    found = call(*words)
    assert isinstance(found.exception, ServeGraphError), found.output
    return str(found.exception)


def graph_file(folder: Path, skill: float = 0.5, cheap_usd: float = 0.1) -> Path:
    """Two echo tiers, their state beside the file."""
    tiers = [
        {"name": name, "engine": "echo", "skill": s, "price": {"input_usd_per_mtok": p, "output_usd_per_mtok": 4 * p}}
        for name, s, p in (("cheap", skill, cheap_usd), ("frontier", 1.0, 2))
    ]
    config = {"tiers": tiers, "policy": {"version": "none", "safe_tier": "frontier"}}
    path = folder / f"graph-{skill}-{cheap_usd}.yaml"
    path.write_text(yaml.safe_dump(config | {"state_folder": str(folder / "state")}))
    return path


def outcomes_file(path: Path, seed: int = 0) -> Path:
    """N graded prompts; what cheap is sure of it mostly gets right."""
    chance = np.random.default_rng(seed)
    right = chance.random(N) < 0.7
    frame: dict[str, Any] = {
        "prompt": [f"{'short' if r else 'rather long and winding'} question {seed}.{i}" for i, r in enumerate(right)],
        "cheap": right.astype(float),
        "frontier": (chance.random(N) < 0.97).astype(float),
        "cheap|max_token_confidence": np.where(right, 0.9, 0.2) + 0.05 * chance.random(N),
        "frontier|max_token_confidence": 0.9 + 0.05 * chance.random(N),
    }
    for tier in ("cheap", "frontier"):
        frame |= {f"{tier}_prompt_tokens": 50, f"{tier}_completion_tokens": 20}
    pd.DataFrame(frame).to_parquet(path)
    return path


@dataclass(frozen=True)
class Bench:
    """A configuration, outcomes that were collected from it, a candidate; `certify` and `versions` ready to call."""

    folder: Path
    context: Path
    outcomes: Path
    candidate: Path

    def certify(self, *words: object, outcomes: Path | None = None, context: Path | None = None) -> list[object]:
        given = ["--config", context or self.context, "-o", outcomes or self.outcomes, "--candidate", self.candidate]
        return ["certify", *given, "--epsilon", "0.2", *words]

    def versions(self, what: str, *words: object) -> list[object]:
        return ["versions", what, *words, "--config", self.context]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Bench:
    folder = tmp_path_factory.mktemp("making")
    new_registry(folder / "state" / "mlflow.db")
    context, outcomes = graph_file(folder), outcomes_file(folder / "outcomes.parquet")
    write_collected_binds(outcomes, tier_binds(load_config(context)))
    found = Bench(folder, context, outcomes, folder / "candidate")
    families = ["--router", "surface", "--verifier", "combined"]
    said = done("train", "--config", context, "-o", outcomes, "--out", found.candidate, *families, "--json")
    assert {row["family"] for row in json.loads(said)["tried"]} >= {"surface", "combined"}
    return found


def test_a_candidate_is_never_overwritten(bench: Bench) -> None:
    assert "never overwritten" in refused(
        "train", "--config", bench.context, "-o", bench.outcomes, "--out", bench.candidate
    )


def test_outcomes_of_other_engines_are_named(bench: Bench) -> None:
    other = graph_file(bench.folder, skill=0.9)
    assert "['cheap.engine']" in refused(*bench.certify(context=other))


def test_outcomes_without_recorded_engines_certify_only_when_the_user_confirms_them(bench: Bench) -> None:
    unknown = outcomes_file(bench.folder / "found.parquet", seed=7)
    message = refused(*bench.certify(outcomes=unknown))
    assert "the engines that gave these answers are not recorded" in message
    assert "--engines-as-configured" in message
    found = call(*bench.certify("--engines-as-configured", "--json", outcomes=unknown))
    assert "as confirmed by --engines-as-configured" in found.stderr
    binds = json.loads(found.stdout)["certificate"]["binds"]
    assert binds.items() >= tier_binds(load_config(bench.context)).items()


def test_versions_are_reviewed_before_they_are_stable_and_can_be_taken_back(bench: Bench) -> None:
    first, second = (json.loads(done(*bench.certify("--json"))) for _ in range(2))
    assert first["certificate"]["epsilon"] == 0.2
    assert second["certificate"]["level"] < first["certificate"]["level"], "a second look costs"
    a, b = (made["version"].rsplit("/", 1)[-1] for made in (first, second))
    for name in (first["version"], second["version"]):
        assert name in done(*bench.versions("list"))
    assert "## Promise" in done(*bench.versions("show", a))

    assert first["review"]["state"] == "proposed", "nothing approves itself"
    assert "is proposed and not approved" in refused(*bench.versions("promote", a))
    done(*bench.versions("approve", a, *REVIEW))
    done(*bench.versions("promote", a))
    assert stable(bench) == first["version"]
    assert "has no recorded predecessor" in refused(*bench.versions("rollback"))

    done(*bench.versions("reject", b, *REVIEW))
    assert "rejected" in refused(*bench.versions("promote", b))
    assert stable(bench) == first["version"]
    done(*bench.versions("approve", b, *REVIEW))
    done(*bench.versions("promote", b))
    assert stable(bench) == second["version"]
    done(*bench.versions("reject", a, *REVIEW))
    assert "rejected" in refused(*bench.versions("rollback"))
    done(*bench.versions("approve", a, *REVIEW))
    done(*bench.versions("rollback"))
    assert stable(bench) == first["version"]
    third = done(*bench.certify("--alias", "stable"))
    assert "stable stays on the version that is approved" in third
    assert stable(bench) == first["version"], "a version that nobody has approved takes no traffic away"
    assert "no version '99'" in refused(*bench.versions("approve", "99"))


def stable(bench: Bench) -> str:
    return str(json.loads(done(*bench.versions("show", "stable", "--json")))["version"])


@pytest.mark.parametrize(
    ("words", "message"), [([], "is complete; --overwrite"), (["--overwrite"], "does not answer")]
)
def test_a_complete_table_is_collected_again_only_with_overwrite(
    bench: Bench, words: list[str], message: str, unused_tcp_port: int
) -> None:
    before = bench.outcomes.read_bytes()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert message in refused("collect", "--config", bench.context, "--out", bench.outcomes, "--url", url, *words)
    assert bench.outcomes.read_bytes() == before


def test_a_version_that_loses_money_is_refused_by_certify_promote_approve_and_up_unless_told_so(bench: Bench) -> None:
    """A try of the cheap tier costs nearly what the answer costs that it spares."""
    dear = graph_file(bench.folder, cheap_usd=1.9)
    loss = r"it would lose money: .* tries had to be repeated on frontier \(95 % interval .*\); break-even is 5\.0%"

    def refused_for_loss(*words: object) -> None:
        found = call(*words)
        assert isinstance(found.exception, LossError), found.output
        assert re.search(loss, str(found.exception))

    before = done("versions", "list", "--config", dear)
    refused_for_loss(*bench.certify(context=dear))
    assert done("versions", "list", "--config", dear) == before, "nothing was registered"
    made = json.loads(done(*bench.certify("--allow-loss", "--json", context=dear)))
    assert made["break_even"]["pays"] is False
    number = made["version"].rpartition("/")[2]
    assert re.search("break-even: .*it loses money", done("versions", "show", number, "--config", dear))
    done("versions", "approve", number, "--config", dear, *REVIEW)
    refused_for_loss("versions", "promote", number, "--config", dear)
    done("versions", "promote", number, "--config", dear, "--allow-loss")

    graph = load_config(dear)
    set_tags(graph.registry_uri, graph.policy.model_name, number, {"replaced": number})
    refused_for_loss("versions", "rollback", "--config", dear)
    done("versions", "rollback", "--config", dear, "--allow-loss")
    asked = {"version": "stable"}
    stable_graph = graph.model_copy(update={"policy": graph.policy.model_copy(update=asked)})
    served = serving_version(stable_graph)
    assert served.version is None
    assert re.search(loss, served.reason)
    allowed = graph.policy.model_copy(update={**asked, "allow_loss": True})
    assert serving_version(graph.model_copy(update={"policy": allowed})).name == made["version"]

    serving = yaml.safe_load(dear.read_text())
    dear.write_text(yaml.safe_dump(serving | {"policy": serving["policy"] | asked}))
    refused_for_loss("versions", "approve", number, "--config", dear)
    done("versions", "approve", number, "--config", dear, "--allow-loss", *REVIEW)


def votes_file(path: Path, *, winner: str = "") -> Path:
    """On long questions the dearer model wins, on short ones nobody does."""
    rows = [
        {
            "prompt": f"{'short' if easy else 'rather long and winding'} question v{i}",
            "model_a": "m8b",
            "model_b": "m70b",
        }
        | {"winner": winner or ("tie" if easy else "b")}
        for i, easy in enumerate([True, False] * 60)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_votes_train_a_router_and_the_version_says_how_many_and_that_they_certify_nothing(bench: Bench) -> None:
    given = ["train", "--config", bench.context, "-o", bench.outcomes, "--verifier", "combined"]
    votes, out = votes_file(bench.folder / "votes.jsonl"), bench.folder / "voted"
    named = ["--vote-model", "cheap=m8b", "--vote-model", "frontier=m70b"]
    said = done(*given, "--router", "preferences", "--votes", votes, *named, "--out", out)
    words = "the router of cheap learned from 120 votes, and from no grades. Votes certify nothing"
    assert words in said
    shown = json.loads(done(*bench.certify("--candidate", out, "--json")))
    assert shown["learned_from"].startswith(words)
    assert shown["certificate"]["label_source"] != "votes"
    assert words in done(*bench.versions("show", shown["version"].rpartition("/")[2]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vote-model", "cheap=unheard", "--votes", "{votes}"], "no vote on unheard; it has m70b, m8b"),
        (["--votes", "{bad}"], "column 'winner', line 1: 'nobody' is no winner"),
    ],
    ids=["unknown model", "bad row"],
)
def test_votes_that_cannot_be_used_are_refused_by_name(bench: Bench, words: list[str], message: str) -> None:
    files = {
        "votes": votes_file(bench.folder / "v.jsonl"),
        "bad": votes_file(bench.folder / "bad.jsonl", winner="nobody"),
    }
    given = [word.format(**files) for word in words]
    found = call("train", "--config", bench.context, "-o", bench.outcomes, "--out", bench.folder / "never", *given)
    assert found.exit_code == 1
    assert message in str(found.exception)


ASKED_WRONGLY = {
    "without grades": ["--votes", "v.jsonl"],
    "without votes": ["-o", "x", "--vote-model", "cheap=a"],
    "no pair": ["-o", "x", "--votes", "v.jsonl", "--vote-model", "cheap"],
}


@pytest.mark.parametrize("words", ASKED_WRONGLY.values(), ids=list(ASKED_WRONGLY))
def test_votes_are_asked_for_with_grades(bench: Bench, words: list[str]) -> None:
    assert call("train", "--config", bench.context, "--out", bench.folder / "never", *words).exit_code == 2


def test_a_new_model_is_measured_and_added_from_the_command_line(bench: Bench) -> None:
    """The cheap tier taken for new, beside a third model that finds the same questions easy, whatever their length."""
    chance, n, graded = np.random.default_rng(4), 420, 300
    easy = chance.random(n) < 0.6
    more, asked = ["very " * k for k in chance.integers(0, 9, n)], {True: "Name a -fruit", False: "Prove the -lemma"}
    columns: dict[str, Any] = {
        "prompt": [f"{asked[e]} {i}".replace("-", m) for i, (e, m) in enumerate(zip(easy, more, strict=True))],
        "cheap": (chance.random(n) < np.where(easy, 0.98, 0.1)).astype(float),
        "other": chance.random(n) < np.where(easy, 0.98, 0.1),
        "frontier": chance.random(n) < 0.97,
    }
    columns["cheap"][graded:] = np.nan
    for tier in ("cheap", "frontier"):
        columns |= {f"{tier}_prompt_tokens": 50, f"{tier}_completion_tokens": 20}
    table, out = bench.folder / "with-new.parquet", bench.folder / "added"
    pd.DataFrame(columns).to_parquet(table)
    given = ["models", "add", "cheap", "-o", table, "--config", bench.context]
    found = json.loads(done(*given, "--json"))
    assert found["candidate"] is None
    assert found["graded"] < 170 < found["side_prompts"]
    assert found["over_length"]["low"] > 0
    assert {one["model"] for one in found["beside"]} == {"frontier", "other"}
    said = done(*given, "--out", out)
    assert "over prompt length" in said
    assert "In its place: " in said
    write_collected_binds(table, tier_binds(load_config(bench.context)))
    shown = json.loads(done(*bench.certify("--candidate", out, "--json", outcomes=table)))
    assert shown["certificate"]["epsilon"] == 0.2
    assert "never overwritten" in refused(*given, "--out", out)
    assert "is no tier of" in refused("models", "add", "frontier", "-o", table, "--config", bench.context)
    assert call(*given, "--method", "guess").exit_code == 2


def test_a_new_model_whose_router_is_no_better_than_prompt_length_is_refused_unless_asked_for(bench: Bench) -> None:
    """Its right answers follow from the prompt's length alone."""
    chance, n = np.random.default_rng(3), 300
    words = chance.integers(1, 30, n)
    columns = {"prompt": [f"{i} " + "word " * k for i, k in enumerate(words)], "cheap": (words < 15).astype(float)}
    columns |= {"other": chance.random(n) < 0.5, "frontier": chance.random(n) < 0.97}
    for tier in ("cheap", "frontier"):
        columns |= {f"{tier}_prompt_tokens": 50, f"{tier}_completion_tokens": 20}
    table = bench.folder / "by-length.parquet"
    pd.DataFrame(columns).to_parquet(table)
    given = ["models", "add", "cheap", "-o", table, "--config", bench.context, "--method", "cluster-error"]
    found = call(*given)
    assert found.exit_code == 1
    assert "cheap is not added: it orders cheap's prompts no better than their length does" in str(found.exception)
    assert "measured only" in done(*given, "--allow-unproven")
