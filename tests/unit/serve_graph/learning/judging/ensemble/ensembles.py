"""An ensemble of two fake tiers behind the HTTP application, and whoever picks."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from router_models.estimators.questions.terms import AskedSettings, VerifierTerms
from router_models.types import Completion, DecisionRecord, Query
from serve_graph.cascade.context import AskedTerms
from serve_graph.cascade.fakes import PRICES, FakeEngine
from serve_graph.config.judge import EnsembleConfig, JudgeConfig
from serve_graph.gateway.capabilities.ensemble_sample import EnsembleSample
from serve_graph.gateway.context_length import Room
from serve_graph.gateway.worst_case import worst_ensemble
from serve_graph.learning.judging.ensemble.picking import JudgePicker, RewardPicker
from serve_graph.learning.judging.ensemble.two_tiers import TwoTiers
from serve_graph.learning.judging.judge_budget import JudgeBudget

Endpoints = Callable[..., Any]
TIERS = ("cheap", "frontier")
SOURCE = "judge:critic/fake"
_ANSWERS = re.compile(r"BEGIN (FIRST|SECOND) ANSWER (\w+)\n(.*?)\nEND \1 ANSWER", re.DOTALL)


@dataclass
class Referee(FakeEngine):
    """A judge that calls right the answers that hold a word of `likes`; or says `always`, whatever it reads."""

    likes: tuple[str, ...] = ("frontier",)
    always: str | None = None
    asked: list[str] = field(default_factory=list)

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        done = await super().generate(query, left_s)
        prompt = query.messages[0].content
        self.asked.append(prompt)
        found = {
            which: (nonce, any(word in text for word in self.likes)) for which, nonce, text in _ANSWERS.findall(prompt)
        }
        (nonce, first), (_, second) = found["FIRST"], found["SECOND"]
        word = {(True, True): "both", (True, False): "first", (False, True): "second"}.get((first, second), "neither")
        return Completion(f"Hm.\nVERDICT {nonce}: {self.always or word}", "stop", done.usage)


@dataclass
class Scorer(FakeEngine):
    """A verifier model that gives each answer the score of the first word of `scores` in it."""

    scores: Mapping[str, Any] = field(default_factory=lambda: {"cheap": 0.0, "frontier": 2.0})

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        await super().generate(query, left_s)
        answer = query.parameters["messages"][-1]["content"]
        score = next(score for word, score in self.scores.items() if word in answer)
        return Completion("", "stop", replace(self.usage, completion_tokens=0), payload={"score": score})


@dataclass
class Drawn:
    """An endpoint of which `config.share` is drawn, and the parts of its ensemble."""

    at: Any
    ensemble: TwoTiers
    sample: EnsembleSample
    critic: FakeEngine
    budget: JudgeBudget

    async def ask(self, content: str = "2 + 2?", headers: Mapping[str, str] | None = None, **fields: Any) -> Any:
        """One request to `auto`, or to whom `model` names."""
        body = {"model": "auto", "messages": [{"role": "user", "content": content}], **fields}
        async with self.at.client() as client:
            return await client.post("/v1/chat/completions", json=body, headers=dict(headers or {}))

    @property
    def record(self) -> DecisionRecord:
        record: DecisionRecord = self.at.record
        return record

    @property
    def entry(self) -> dict[str, Any]:
        """What the record says of the ensemble."""
        found: dict[str, Any] = self.record.evidence["ensemble"]
        return found

    def lines(self) -> list[tuple[str, str]]:
        """Whom the bill pays for what, in no order."""
        return sorted((line.tier, line.what) for line in self.record.bill if line.tier not in ("router", "verifier"))


def drawn(
    endpoint: Endpoints,
    folder: Path,
    critic: FakeEngine | None = None,
    *,
    budget: Decimal = Decimal(1),
    by: str = "critic",
    known: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Drawn:
    """An endpoint whose requests are drawn; `settings` are the ensemble's, `known` the endpoint's."""
    critic = critic or (Scorer() if by.startswith("reward:") else Referee())
    config = EnsembleConfig.model_validate({"share": 1.0, "judge": by, **settings})
    at = endpoint(**{"keep_prompt": str, "keep_answer": str, **(known or {})})
    prices = {**PRICES, "critic": PRICES["cheap"]}
    verifiers = {"critic": VerifierTerms(PRICES["cheap"])} if config.reward else {}
    asked = AskedTerms(engines={"critic": critic, **at.context.engines}, settings=AskedSettings(verifiers=verifiers))
    at.service.context = replace(at.context, prices=prices, asked=asked)
    grading = JudgeConfig(tier="critic", mode="pairwise")
    picker = RewardPicker(by, config.reward) if config.reward else JudgePicker(grading, SOURCE)
    rooms = {tier: Room(None, 100) for tier in TIERS}
    spent = JudgeBudget(folder / "ensemble.json", budget)
    tokens = None if config.reward else grading.max_tokens

    def most_usd(query: Query) -> dict[str, Decimal]:
        return worst_ensemble(query, TIERS, "critic", tokens, prices, rooms)

    ensemble = TwoTiers(config, TIERS, picker, spent, most_usd)
    at.service.sample = EnsembleSample(config, TIERS, b"secret", ensemble, most_usd, ensemble.note_left_out)
    return Drawn(at, ensemble, at.service.sample, critic, spent)


def chunks_of(reply: Any) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
