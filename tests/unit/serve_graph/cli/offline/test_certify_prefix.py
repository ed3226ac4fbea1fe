"""`train` and `certify --prefix` on a small table, then a stream that is shown after N tokens of the version made."""

import json
import math
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.risk_control.certificates.risks import HARM
from router_models.types import Completion, Decision, Outcome, Query, Usage, Verdict
from router_models.types.exchange import logprob_summary
from router_models.versions.label_looks import LOOKS
from router_models.versions.registry import find_version
from router_models.versions.router_version import RouterVersion
from serve_graph.cascade.fakes import FakeEngine, ListSink, fake_context
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.gateway.handler import Service
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.serving_version import serving_version
from serve_graph.protocol.requests import RequestOptions
from tests.fixtures.registry import approve_version

CONFIG: dict[str, Any] = {
    "tiers": [
        {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}},
        {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 8}},
    ],
    "policy": {"version": "stable", "safe_tier": "frontier", "epsilon": 0.15},
}
LONG = "It is a brown cat, as everybody knows, and it sits on a mat."
N = 6


def world(n: int, *, kept: bool = True, tells: bool = True) -> list[Outcome]:
    """Colours it mostly knows, sums it does not; answers of 3 to 20 tokens, the first of which say how sure it is."""
    rng, outcomes = random.Random(3), []
    for i in range(n):
        easy = rng.random() < 0.7
        prompt = f"What colour is the cat number {i}?" if easy else f"Add {i} and {rng.randint(100, 999)} to the cat."
        right = rng.random() < (0.8 if easy else 0.1)
        count = rng.randint(3, 20)
        sure = right if tells else rng.random() < 0.7
        early = tuple(-0.02 - (0.2 if sure else 1.5) * rng.random() for _ in range(count))
        lps = early if tells else tuple(-0.02 - (0.2 if right else 1.5) * rng.random() for _ in range(count))
        words = tuple(f" w{j}" for j in range(count))
        for tier, grade in (("cheap", float(right)), ("frontier", float(rng.random() < 0.88))):
            tokens = (words, early) if kept and tier == "cheap" else ((), ())
            outcomes.append(
                Outcome(prompt_id(prompt), prompt, tier, "".join(words), grade, Usage(20, count), 0.1, "stop",
                        logprob_summary(lps), {}, *tokens)
            )  # fmt: skip
    return outcomes


class Made:
    """A folder in which a candidate was trained; `certify` runs the command there."""

    def __init__(self, folder: Path, outcomes: list[Outcome]) -> None:
        self.folder, self.outcomes = folder, folder / "outcomes.parquet"
        self.context = folder / "graph.yaml"
        self.context.write_text(yaml.safe_dump(CONFIG | {"state_folder": str(folder / "state")}))
        write_outcomes(self.outcomes, outcomes)
        write_collected_binds(self.outcomes, tier_binds(load_config(self.context)))
        trained = self.call("train", "--out", folder / "candidate", "--router", "surface", "--verifier", "logprob")
        assert trained.exit_code == 0, trained.output

    def call(self, command: str, *words: object) -> Result:
        given = [command, "--config", self.context, *words]
        if command != "versions":
            given += ["--outcomes", self.outcomes]
        return CliRunner().invoke(app, [str(word) for word in given])

    def certify(self, *words: object) -> Result:
        return self.call("certify", "--candidate", self.folder / "candidate", *words)

    def looks(self) -> int:
        """How many looks at labels, of any kind, the registry has noted."""
        client = MlflowClient(load_config(self.context).registry_uri)
        experiment = client.get_experiment_by_name(LOOKS)
        return 0 if experiment is None else len(client.search_runs([experiment.experiment_id]))

    def version(self, alias: str) -> RouterVersion:
        context = load_config(self.context)
        found = find_version(context.registry_uri, context.policy.model_name, alias)
        assert found is not None
        return RouterVersion.load(found.folder(self.folder / "cache"), found.name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Made:
    folder = tmp_path_factory.mktemp("prefix")
    new_registry(folder / "state" / "mlflow.db")
    return Made(folder, world(700))


@pytest.fixture(scope="module")
def certified(made: Made) -> dict[str, Any]:
    result = made.certify("--prefix", N, "--alias", "stable", "--json")
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_certify_makes_a_version_with_a_prefix_point_and_says_so(made: Made, certified: dict[str, Any]) -> None:
    assert certified["no_prefix"] is None
    proof = certified["prefixes"]["cheap"]
    assert proof["what"] == f"P({HARM} | cheap accepted by its first {N} tokens)"
    assert (proof["epsilon"], proof["round"]) == (0.15, 1)
    version = made.version("stable")
    assert version.policy.prefixes["cheap"].tokens == N
    approve_version(load_config(made.context).registry_uri)
    served = serving_version(load_config(made.context))
    assert served.version is not None, served.reason
    told = ServedPolicy.of(served.version, served.name, served.reason, load_config(made.context)).prefixes
    assert told == {"cheap": served.version.prefix_certificates["cheap"].summary()}
    shown = CliRunner().invoke(app, ["versions", "show", "stable", "--config", str(made.context), "--json"])
    assert json.loads(shown.stdout)["prefixes"]["cheap"]["tokens"] == N
    page = CliRunner().invoke(app, ["versions", "show", "stable", "--config", str(made.context)])
    assert f"by their first {N}: **the promise**" in page.stdout


def test_another_look_for_a_prefix_spends_less_of_its_own_delta(made: Made, certified: dict[str, Any]) -> None:
    result = made.certify("--prefix", f"{N},4", "--json")
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert (again["certificate"]["round"], again["prefixes"]["cheap"]["round"]) == (2, 2)
    assert again["prefixes"]["cheap"]["level"] == pytest.approx(certified["prefixes"]["cheap"]["level"] / 4 / 2)


class Decides:
    """The loaded version behind the two interfaces of the cascade."""

    def __init__(self, version: RouterVersion) -> None:
        self.version, self.judged = version, list[Completion]()

    async def decide(self, query: Query) -> Decision:
        return self.version.decide(query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        self.judged.append(completion)
        return self.version.judge(query, completion, decision)


class Sure(FakeEngine):
    """Says LONG, two characters a token, as surely as told; counts the pieces that were fetched."""

    logprob = -0.05
    sent = 0

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        async for chunk in super().stream(query, left_s):
            for choice in chunk["choices"]:
                for token in (choice.get("logprobs") or {}).get("content", ()):
                    token["logprob"] = self.logprob
                    self.sent += 1
            yield chunk


@pytest.mark.parametrize(("logprob", "outcome"), [(-0.05, "accepted"), (-1.4, "escalated")])
async def test_a_stream_of_that_version_commits_after_n_tokens(
    made: Made, certified: dict[str, Any], logprob: float, outcome: str
) -> None:
    cheap = Sure(LONG, piece_chars=2)
    cheap.logprob = logprob
    version = made.version("stable")
    policy, sink = Decides(version), ListSink()
    context = replace(fake_context(cheap), policy=version.policy, decider=policy, judge=policy)
    service = Service(context, sink)
    query = Query.from_prompt("What colour is the cat number 345?")
    chunks = service.stream(service.open(query, "auto", True, RequestOptions(stream="prefix")))
    said = [await anext(chunks)]
    sent_at_commit = cheap.sent
    said += [chunk async for chunk in chunks]
    assert sent_at_commit == N + 1, "shown, or dropped, as soon as the answer was known to go on"
    [judged] = policy.judged
    assert (judged.text, len(judged.token_logprobs)) == (LONG[: 2 * N], N)
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in said if c.get("choices"))
    assert (text, sink.records[0].outcome) == (LONG if outcome == "accepted" else "frontier says", outcome)


def test_where_nothing_certifies_the_version_is_made_without_and_the_reason_is_said(
    tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    new_registry(tmp_path / "state" / "mlflow.db")
    made = Made(tmp_path, world(700, tells=False))
    result = made.certify("--prefix", "4,8", "--alias", "stable")
    assert result.exit_code == 0, result.output
    assert "no prefix verdict: first 4 tokens:" in result.stdout
    assert made.version("stable").policy.prefixes == {}


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("0", "after 1 token or more"),
        ("500", "no answer of tier 'cheap' is longer than 500 tokens"),
        ("six", "--prefix takes numbers of tokens"),
        ("6,6", "each once"),
    ],
)
def test_a_prefix_that_cannot_be_is_refused_before_a_label_is_looked_at(
    made: Made, certified: dict[str, Any], prefix: str, message: str
) -> None:
    before = made.looks()
    assert before > 0
    result = made.certify("--prefix", prefix)
    assert made.looks() == before
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_outcomes_without_tokens_say_how_to_get_them(tmp_path: Path) -> None:
    made = Made(tmp_path, world(300, kept=False))
    result = made.certify("--prefix", 6)
    assert result.exit_code == 1
    assert "serve-graph collect --tier cheap" in str(result.exception)
