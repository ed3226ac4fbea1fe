"""Every signal that a family reads is in the table, and is had where the table says so."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from router_models.data.features import answers_of
from router_models.errors import DataError
from router_models.estimators.asked_signals import ASKED_SIGNALS, check_asked
from router_models.estimators.questions.terms import AskedSettings, AskedTier
from router_models.estimators.routers import ROUTERS
from router_models.estimators.signals import (
    COMES_WITH_AN_ANSWER,
    SIGNALS,
    SignalCost,
    TierKind,
    check_served,
    served_names,
    signal_named,
    would_need,
)
from router_models.estimators.verifiers import VERIFIERS
from router_models.estimators.verifiers.checks.formats import format_columns
from router_models.estimators.verifiers.learned.sources import NUMBER_SIGNALS, PROBABILITY_SIGNALS
from router_models.types import Answers, FloatArray, Prompts, Query
from router_models.types.exchange import ASKED_NAMES, BEFORE_NAMES, FORMAT_NAMES, LOGPROB_NAMES
from router_models.versions.sealed.tier_models import ROUTER_SCORE, as_served
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.engines.echo.engine import EchoEngine
from serve_graph.protocol.requests import AskedName
from serve_graph.protocol.responses import completion_of

N = 60
RNG = np.random.default_rng(3)
GRADES = (np.arange(N) % 3 > 0).astype(np.float64)
WORDS = ("sum", "poem", "proof")
VLLM_REPLY = {
    "id": "chatcmpl-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "mice"},
            "logprobs": {
                "content": [
                    {"token": "m", "logprob": -0.02, "bytes": [109], "top_logprobs": []},
                    {"token": "ice", "logprob": -0.3, "bytes": [105, 99, 101], "top_logprobs": []},
                ]
            },
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14},
}
"""What vLLM replies to a chat request with `logprobs: true`."""


class AnyName(dict[str, FloatArray]):
    """Signals of every name that anybody asks for, so that a family shows all that it would read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[str] = set()
        for name in (*LOGPROB_NAMES, *PROBABILITY_SIGNALS, *NUMBER_SIGNALS):
            self[name] = self.__missing__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return True

    def __missing__(self, name: str) -> FloatArray:
        self.read.add(name)
        self[name] = np.where(GRADES > 0, 0.8, 0.2) * (1 if name in PROBABILITY_SIGNALS else -1)
        return self[name]


def prompts_with(*reads: str) -> Prompts:
    texts = tuple(f"{WORDS[i % 3]} number {i}" + " more" * (i % 5) for i in range(N))
    vectors = RNG.normal(size=(N, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata: dict[str, tuple[str, ...]] = (
        {"domain": tuple(WORDS[i % 3] for i in range(N))} if "metadata" in reads else {}
    )
    metadata |= {"oracle": tuple(f"{y:g}" for y in GRADES)} if "grade" in reads else {}
    wanted = {"embedding", "hidden_states"} & set(reads)
    said = {name: 0.2 + 0.6 * GRADES for name in BEFORE_NAMES if name in reads}
    return Prompts(texts, vectors if wanted else None, metadata, None, said)


@pytest.mark.parametrize("family", sorted(VERIFIERS))
def test_a_verifier_reads_only_signals_of_the_table(family: str) -> None:
    signals = AnyName()
    X = Answers(prompts_with("embedding"), ("fine",) * N, ("stop",) * N, signals)
    verifier = VERIFIERS[family]().fit(X, GRADES)
    verifier.predict(X)
    assert signals.read | set(verifier.wants_signals) <= set(SIGNALS)


FULL = {"matrix-factorisation"}
"""Families that take too long for every run of the tests."""


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[pytest.mark.full] if f in FULL else []) for f in sorted(set(ROUTERS) - {"encoder"})],
)
def test_a_router_reads_only_what_it_names(family: str) -> None:
    """It is fitted and asked with what its `reads` name, all else left out."""
    reads = ROUTERS[family].reads
    assert set(reads) <= set(SIGNALS)
    X = prompts_with(*reads)
    scores = ROUTERS[family]().fit(X, GRADES).predict(X)
    assert np.isfinite(scores).all()
    assert ("embedding" in reads or "hidden_states" in reads) == ROUTERS[family].needs_embeddings
    unserved = any(would_need(name) for name in reads)
    assert unserved == ((family != "p-yes" and ROUTERS[family].needs_reader) or ROUTERS[family].needs_grades)
    assert set(ROUTERS[family]().fit(X, GRADES).wants_signals) == set(reads) & set(BEFORE_NAMES)


def test_every_signal_that_a_verifier_may_use_as_a_column_is_in_the_table() -> None:
    assert {*LOGPROB_NAMES, *PROBABILITY_SIGNALS, *NUMBER_SIGNALS} <= set(SIGNALS)


def echo_reply() -> dict[str, object]:
    engine = EchoEngine(
        EchoTierConfig.model_validate(
            {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}}
        )
    )
    return asyncio.run(engine.generate({"messages": [{"role": "user", "content": "What is the plural of mouse?"}]}))


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        (TierKind.VLLM, VLLM_REPLY),
        (TierKind.HOSTED_LOGPROBS, VLLM_REPLY),
        (TierKind.ECHO, echo_reply()),
        (TierKind.HOSTED, {**VLLM_REPLY, "choices": [{**VLLM_REPLY["choices"][0], "logprobs": None}]}),  # type: ignore[index,dict-item]
    ],
)
def test_a_signal_is_in_a_reply_exactly_where_the_table_says_so(kind: TierKind, reply: dict[str, object]) -> None:
    completion = completion_of(reply, 0.2)
    prompts = Prompts(("What is the plural of mouse?",))
    asked = replace(Query.from_prompt(prompts.texts[0]), parameters={"response_format": {"type": "json_object"}})
    formats = format_columns(asked, completion, FORMAT_NAMES)
    shown = as_served(answers_of(prompts, [completion], formats), np.array([0.6])).signals
    assert set(shown) == {*COMES_WITH_AN_ANSWER, ROUTER_SCORE}
    measured = {name for name, column in shown.items() if np.isfinite(column).all() and name != "log_tokens"}
    told = {name for name in shown if would_need(name, kind) is None and name != "log_tokens"}
    assert measured == told
    assert (shown["log_tokens"][0] > 0) == (would_need("log_tokens", kind) is None)
    assert completion.text
    assert completion.finish_reason


def test_what_the_served_graph_lacks_says_what_it_would_need() -> None:
    for name, row in SIGNALS.items():
        for kind in TierKind:
            sentence = would_need(name, kind)
            assert (sentence is None) == (kind in row.kinds)
            assert sentence is None or sentence.startswith(f"the signal {name} would need ")
    assert would_need("someone's own column") is not None
    with pytest.raises(DataError, match="verifier reward: the signal reward would need a verifier model"):
        check_served("verifier reward", VERIFIERS["reward"]().wants_signals)


def test_signals_that_are_asked_for_are_rows_of_the_table() -> None:
    assert tuple(ASKED_SIGNALS) == ASKED_NAMES
    assert signal_named("reward:critic") == replace(SIGNALS["reward:NAME"], name="reward:critic")
    assert check_asked(["reward:critic", "p_true"]) == ("p_true", "reward:critic")
    assert set(get_args(AskedName)) == set(ASKED_NAMES)
    for name, row in ASKED_SIGNALS.items():
        assert SIGNALS[name].cost in (SignalCost.CALL, SignalCost.CALLS)
        askable = row.kinds_under(AskedSettings()) | row.kinds_under(AskedSettings(verdicts=1))
        assert row.asks is AskedTier.LAST or askable == SIGNALS[name].kinds
        read = {signal for family in VERIFIERS.values() for signal in family.needs_signals}
        assert name in read | {signal for router in ROUTERS.values() for signal in router.reads}


def test_of_recorded_signals_only_served_ones_are_shown() -> None:
    recorded = ("lp_mean", "p_true", "agreement", "max_token_confidence", "outchars", "anything")
    assert served_names(recorded, TierKind.VLLM) == ("lp_mean",)
    assert served_names(recorded, TierKind.HOSTED) == ()
    answers = Answers(Prompts(("a",)), ("b",), ("stop",), {name: np.ones(1) for name in recorded})
    assert set(as_served(answers, None).signals) == {"lp_mean"}
    assert served_names(recorded, TierKind.VLLM, ["p_true"]) == ("lp_mean", "p_true")
    assert served_names(recorded, TierKind.HOSTED, ["p_true", "agreement"]) == ("agreement",)
    assert set(as_served(answers, None, ["p_true"]).signals) == {"lp_mean", "p_true"}


def signals_page() -> str:
    """Return the table as Markdown: what is had, of which kinds of tiers, at what cost, and else what is needed."""
    kinds = tuple(TierKind)
    lines = [
        "| signal | says | comes from | " + " | ".join(kinds) + " | costs | where it is not had, it would need |",
        "|" + "---|" * (5 + len(kinds)),
    ]
    for row in SIGNALS.values():
        had = " | ".join("yes" if kind in row.kinds else "–" for kind in kinds)
        lines.append(f"| `{row.name}` | {row.meaning} | {row.comes_from} | {had} | {row.cost} | {row.needs or '–'} |")
    return "\n".join(lines) + "\n"


def test_the_page_of_signals_is_the_table() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "reference" / "signals.md"
    assert signals_page() in page.read_text(encoding="utf-8")
