"""Ask a judge a question and read its verdict; of a pair of answers, in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from router_models.types import Completion, Message, Query
from serve_graph.config.judge import JudgeConfig
from serve_graph.learning.judging.judge_prompts import PAIRWISE_WORDS, fresh_nonce, judge_prompt, verdict_in


class UnparsableError(Exception):
    """The judge's reply held no verdict."""


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """Which of two answers are right; None of both where the two orders disagree. `usd`: what asking cost.

    `means`: where they disagree, in how many of the two orders each answer was called right, as a share;
    `second_alone`: in how many the second was, and the first was not.
    """

    first: bool | None
    second: bool | None
    usd: Decimal
    means: tuple[float, float] | None = None
    second_alone: float | None = None

    @property
    def is_tie(self) -> bool:
        return self.first is None


class CallsJudge(Protocol):
    """Calls the judge's tier; returns its reply and the call's dollars."""

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]: ...


class JudgeQuestions:
    """Put questions to the judge of a configuration, each with a code of its own."""

    def __init__(self, config: JudgeConfig, calls: CallsJudge, nonce: Callable[..., str] = fresh_nonce) -> None:
        self.config = config
        self.calls = calls
        self.nonce = nonce

    async def ask(self, template: str, words: Mapping[str, Any], **texts: str) -> tuple[str, Decimal]:
        """Return the word of the verdict and the call's dollars.

        Raises UnparsableError where the reply holds none, and what `make` of the calls raises.
        """
        nonce = self.nonce(template, *texts.values())
        asked = Message("user", judge_prompt(template, nonce=nonce, **texts))
        query = Query((asked,), {}, {**self.config.decoding, "max_tokens": self.config.max_tokens})
        completion, usd = await self.calls.make(self.config.tier, query, "judging")
        word = verdict_in(completion.text, nonce, words)
        if word is None:
            raise UnparsableError
        return word, usd

    async def compare(self, template: str, question: str, one: str, other: str) -> PairVerdict:
        """Which of two answers are right, asked in both orders; raises as `ask`."""
        said, spent = [], Decimal(0)
        for texts in ({"first": one, "second": other}, {"first": other, "second": one}):
            word, usd = await self.ask(template, PAIRWISE_WORDS, question=question, **texts)
            said.append(PAIRWISE_WORDS[word])
            spent += usd
        return _in_both_orders(said[0], said[1], spent)

    async def compare_at_once(self, template: str, question: str, one: str, other: str) -> PairVerdict:
        """As `compare`, both orders at the same time: for somebody who waits. Where one fails the other is ended."""
        orders = ({"first": one, "second": other}, {"first": other, "second": one})
        asking = [
            asyncio.ensure_future(self.ask(template, PAIRWISE_WORDS, question=question, **texts)) for texts in orders
        ]
        try:
            (there, usd), (back, more) = await asyncio.gather(*asking)
        finally:
            for one_order in asking:
                one_order.cancel()
            await asyncio.wait(asking)
        return _in_both_orders(PAIRWISE_WORDS[there], PAIRWISE_WORDS[back], usd + more)


def _in_both_orders(there: tuple[bool, bool], swapped: tuple[bool, bool], usd: Decimal) -> PairVerdict:
    back = swapped[::-1]
    if there == back:
        return PairVerdict(*there, usd)
    means = (there[0] + back[0]) / 2, (there[1] + back[1]) / 2
    alone = sum(second and not first for first, second in (there, back)) / 2
    return PairVerdict(None, None, usd, means, alone)
