"""From served traffic to the next version: a gateway over fakes, a judge's labels by hash, train and certify."""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.outcomes import prompt_id, read_outcomes, write_outcomes
from router_models.errors import DataError, NotCertifiedError
from router_models.types import Action, Completion, Decision, DecisionRecord, Outcome, Query, Usage, Verdict
from router_models.types.drawn import chosen_rows, sample_weights
from router_models.types.exchange import logprob_summary
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cli import app
from serve_graph.cli.offline.certify_text import made_since
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.judge import JudgeConfig
from serve_graph.errors import ServeGraphError
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeTiers
from serve_graph.learning.judging.live_judge import LiveJudge
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore
from tests.fixtures.serving import Endpoint

N, SHARE = 300, 0.6
SOURCE = "judge:critic/echo"
SHOWN = re.compile(r"BEGIN (?:FIRST|SECOND) ANSWER (\w+)\n(.*?)\nEND", re.DOTALL)


def drawn(text: str, salt: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{salt} {text}".encode()).digest()[:4], "big") / 2**32


def prompt_of(i: int) -> str:
    return f"{'short' if drawn(str(i), 'kind') < 0.6 else 'rather long and winding'} question {i}"


@dataclass
class Skilled(FakeEngine):
    """A tier that is right with a probability, by a hash of the prompt, and mostly sure when it is."""

    name: str = "cheap"
    skill: float = 0.7

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        right = drawn(query.text, self.name) < self.skill
        sure = right == (drawn(query.text, f"{self.name} sure") < 0.97)
        logprobs = (-0.02 if sure else -2.0,) * 3
        return Completion("right" if right else "wrong", "stop", Usage(20, 8), logprobs, 0.01)


class Critic(FakeEngine):
    """A judge that knows."""

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        asked = query.messages[0].content
        if not (shown := SHOWN.findall(asked)):
            nonce = re.findall(r"VERDICT (\w+):", asked)[-1]
            word = "right" if "\nright\n" in asked else "wrong"
            return Completion(f"VERDICT {nonce}: {word}", "stop", Usage(9, 2))
        [(nonce, first), (_, second)] = shown
        words = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}
        return Completion(f"VERDICT {nonce}: {words[(first == 'right', second == 'right')]}", "stop", Usage(9, 2))


class SureOnes(FakeJudge):
    """Accepts the answers that their tier was sure of."""

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        sure = completion.token_logprobs[0] > -1
        return Verdict(Action.ACCEPTED if sure else Action.ESCALATED, "by its logprobs", 0.9 if sure else 0.1)


class LongOnesUp(FakeDecider):
    """Sends prompts of many words to the last tier at once."""

    async def decide(self, query: Query) -> Decision:
        return Decision("frontier" if "winding" in query.text else "cheap", "by its length", 0.5)


async def served(folder: Path, decider: FakeDecider, rate: float) -> tuple[list[DecisionRecord], list[Feedback]]:
    """N requests through the gateway, and a judge's labels of the share that a hash draws."""
    engines = {"cheap": Skilled(), "frontier": Skilled(name="frontier", skill=0.95), "critic": Critic()}
    context = fake_context(engines["cheap"], engines["frontier"], decider, SureOnes())
    at = Endpoint(context, sink=ListSink(), keep_prompt=str, keep_answer=str)
    labels: list[Feedback] = []
    judge = LiveJudge(
        JudgeConfig(tier="critic", rate=rate, mode="pairwise", max_queued=10_000, budget_usd_per_day=100),  # type: ignore[arg-type]
        SOURCE,
        JudgeTiers(engines, {**PRICES, "critic": PRICES["cheap"]}),
        labels.append,
        JudgeBudget(folder / "judge.json", 100),  # type: ignore[arg-type]
        after_s=0.0,
        keep_answer=str,
    )
    at.service.judge = judge
    async with at.client() as client:
        for i in range(N):
            body = {"model": "auto", "messages": [{"role": "user", "content": prompt_of(i)}]}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    offered = judge._queue.qsize()
    work = asyncio.ensure_future(judge.run())
    async with asyncio.timeout(60):
        while len(labels) < offered:
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return at.sink.records, labels


@dataclass(frozen=True)
class Traffic:
    """What was served, and its configuration; `store` puts it into a graph of its own."""

    records: list[DecisionRecord]
    labels: list[Feedback]
    new_registry: Callable[[Path], str]

    def store(
        self, folder: Path, labels: Iterable[Feedback] | None = None, *, sessions: bool = False, **changes: Any
    ) -> Path:
        tiers = [
            {"name": name, "engine": "echo", "price": {"input_usd_per_mtok": p, "output_usd_per_mtok": 4 * p}}
            for name, p in (("cheap", 0.1), ("frontier", 2))
        ]
        data = {
            "tiers": tiers,
            "policy": {"version": "none", "safe_tier": "frontier"},
            "feedback": {"label_share": SHARE},
            "state_folder": str(folder / "state"),
        }
        path = folder / "graph.yaml"
        path.write_text(yaml.safe_dump(data))
        self.new_registry(folder / "state" / "mlflow.db")
        records = [replace(one, **changes) for one in self.records]
        if sessions:
            records = [replace(one, session=f"s{i // 3}") for i, one in enumerate(records)]
        asyncio.run(write(load_config(path), records, self.labels if labels is None else labels))
        return path


async def write(config: GraphConfig, records: list[DecisionRecord], labels: Iterable[Feedback]) -> None:
    store = DecisionStore(config.records_url)
    await store.write_many(records)
    await FeedbackTable(store).write(list(labels))
    await store.close()


@pytest.fixture(scope="module")
def everything_tried(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Traffic:
    """Traffic of a version that tries everything on the cheap tier."""
    found = asyncio.run(served(tmp_path_factory.mktemp("tried"), FakeDecider(), SHARE))
    return Traffic(*found, new_registry)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Traffic:
    """Traffic of a version that sends long prompts to the last tier at once."""
    found = asyncio.run(served(tmp_path_factory.mktemp("routed"), LongOnesUp(), SHARE))
    return Traffic(*found, new_registry)


def call(*words: object) -> Any:
    return CliRunner().invoke(app, list(map(str, words)))


def train(graph: Path, out: Path, *words: object) -> Any:
    families = ["--router", "surface", "--verifier", "combined"]
    return call("train", "--config", graph, "--from-decisions", "--out", out, *families, *words)


async def collected(path: Path) -> Path:
    """The table that `collect` would write of N prompts like these."""
    rows = []
    for i in range(N):
        text = prompt_of(i)
        for engine in (Skilled(), Skilled(name="frontier", skill=0.95)):
            made = await engine.generate(Query.from_prompt(text))
            rows.append(
                Outcome(
                    prompt_id(text), text, engine.name, made.text, float(made.text == "right"), made.usage, 0.1,
                    logprobs=logprob_summary(made.token_logprobs), label_source="programmatic",
                )
            )  # fmt: skip
    write_outcomes(path, rows)
    return path


def certify(graph: Path, candidate: Path, *words: object, outcomes: Path | None = None) -> Any:
    table = outcomes or candidate.with_name(f"{candidate.name}-outcomes.parquet")
    given = ["--config", graph, "--candidate", candidate, "-o", table, "--epsilon", "0.2", "--engines-as-configured"]
    return call("certify", *given, "--allow-loss", "--json", *words)


def test_a_whole_draw_of_traffic_trains_and_certifies(everything_tried: Traffic, tmp_path: Path) -> None:
    """Every prompt was tried on the cheap tier, and the judge compared all that the hash drew: a random sample."""
    graph, out = everything_tried.store(tmp_path), tmp_path / "next"
    found = train(graph, out, "--json")
    assert found.exit_code == 0, found.output
    made = json.loads(found.stdout)
    served = made["served"]
    assert served["draw"]["holds"]
    assert served["draw"]["share"] == SHARE
    assert served["whole"] == served["draw"]["prompts"] == len(everything_tried.labels)
    assert {row["route"] for row in served["routes"]} == {"accepted, cheap", "escalated, frontier"}
    assert served["correction"]["applied"]
    assert served["label_sources"] == {SOURCE: len(everything_tried.labels)}
    assert made["unweighted"] == []
    table = read_outcomes(made["outcomes"], ("cheap", "frontier")).only("cheap", "frontier")
    assert not chosen_rows(table.prompts).any()
    weights = sample_weights(table.prompts)
    assert weights is not None
    assert set(weights) == {1.0}, "all were drawn alike"
    for tier, skill in (("cheap", 0.7), ("frontier", 0.95)):
        grades = table.grade(tier)
        assert abs(grades.mean() - skill) < 4 * math.sqrt(skill * (1 - skill) / len(grades))
    proof = certify(graph, out, "--label-source", SOURCE)
    assert proof.exit_code == 0, proof.output
    certificate = json.loads(proof.stdout)["certificate"]
    assert certificate["label_source"] == SOURCE
    assert 0 < certificate["upper"] <= 0.2
    since = {datetime.fromisoformat(moment) for moment in certificate["collected"].values()}
    assert len(since) == 1, "rows of both tiers count as made when their prompt was asked"
    assert since <= {datetime.fromisoformat(record.created_at) for record in everything_tried.records}


def test_traffic_that_the_version_chose_trains_uncorrected_and_certifies_nothing(
    routed: Traffic, tmp_path: Path
) -> None:
    """Nobody knows what the cheap tier would have said to long prompts, and no weight can stand for them.

    What it taught is certified on prompts that every tier was asked.
    """
    graph, out = routed.store(tmp_path), tmp_path / "next"
    found = train(graph, out)
    assert found.exit_code == 0, found.output
    gone_up = sum(record.outcome == "routed" for record in routed.records)
    said = " ".join(found.stdout.split())
    assert "may certify: nothing. Of" in said
    assert "routed, frontier: no answer of cheap was kept" in said
    assert f"{gone_up} of {N} prompts were routed (frontier) first" in said
    assert "their propensity is 0" in said
    assert f"{gone_up} prompts were answered by frontier alone" in said
    refusal = certify(graph, out, "--label-source", SOURCE)
    assert isinstance(refusal.exception, NotCertifiedError)
    assert re.search(r"all \d+ prompts that would certify were chosen", str(refusal.exception))
    asked = asyncio.run(collected(tmp_path / "asked.parquet"))
    proof = certify(graph, out, outcomes=asked)
    assert proof.exit_code == 0, proof.output
    assert json.loads(proof.stdout)["certificate"]["label_source"] == "programmatic"
    assert json.loads(proof.stdout)["certificate"]["collected"] == {}, "the table does not say"
    terms = ["--weak", "cheap", "--strong", "frontier", "--price-weak", "1,2", "--price-strong", "3,4"]
    for command in (["evaluate", "--router", "length"], ["plan", "--router", "surface", "--volume", "1000"]):
        estimated = call(*command, "-o", tmp_path / "next-outcomes.parquet", *terms, "--cache", tmp_path / "cache")
        assert isinstance(estimated.exception, DataError), estimated.output
        assert re.search(r"all \d+ rows were chosen", str(estimated.exception))


def test_one_answer_that_nobody_graded_leaves_nothing_to_certify(everything_tried: Traffic, tmp_path: Path) -> None:
    """Whoever skips what is hard would choose the sample. Requests of a session are one group."""
    skipped = everything_tried.labels[1:]
    graph = everything_tried.store(tmp_path, skipped, sessions=True)
    found = train(graph, tmp_path / "next", "--json")
    assert found.exit_code == 0, found.output
    draw = json.loads(found.stdout)["served"]["draw"]
    assert (draw["holds"], sum(draw["missing"].values())) == (False, 1)
    assert json.loads((tmp_path / "next" / "candidate.json").read_text())["group_by"] == "session"
    refusal = certify(graph, tmp_path / "next", "--label-source", SOURCE)
    assert isinstance(refusal.exception, NotCertifiedError)


def test_it_says_what_is_missing_in_one_sentence(
    everything_tried: Traffic, tmp_path: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    for name in ("none", "bare", "silent"):
        (tmp_path / name).mkdir()
    unkept = everything_tried.store(tmp_path / "bare", [], prompt=None)
    ungraded = everything_tried.store(tmp_path / "silent", [])
    for graph, words, sentence in (
        (unkept, [], "no record holds a prompt.*keep_prompts: true"),
        (ungraded, [], f"{N} decisions with their prompts, and not one grade of an answer"),
        (ungraded, ["--since", "2999-01-01"], "no record that was asked for holds a prompt"),
        (ungraded, ["--version", "router/9"], "no record that was asked for holds a prompt"),
        (ungraded, ["--since", "soon"], "--since, --until and --label-source"),
        (ungraded, ["--label-source", "me"], "--since, --until and --label-source"),
        (ungraded, ["--decisions", tmp_path / "none" / "decisions.db"], "there are no decision records"),
    ):
        found = train(graph, tmp_path / "next", *words)
        assert isinstance(found.exception, ServeGraphError), found.output
        assert re.search(sentence, str(found.exception)), str(found.exception)
        assert not (tmp_path / "next-outcomes.parquet").exists()
    for words in (["--outcomes", "a.parquet", "--from-decisions"], []):
        assert call("train", "--config", unkept, "--out", tmp_path / "next", *words).exit_code == 2


def test_certify_says_since_when_the_answers_were_made_tier_by_tier() -> None:
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    told = made_since({"cheap": since}, ("cheap", "frontier"))
    assert told == "made since 2026-03-01 12:00 (cheap), not known (frontier)"
    assert "lifts no alarm" in made_since({}, ("cheap", "frontier"))
