"""What a signal that is asked for is made of: who is asked, with which requests, how replies are read, the price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from router_models.estimators.signals import ALL_KINDS, TierKind
from router_models.estimators.verifiers.language_model.p_true import Example
from router_models.pricing.prices import Price
from router_models.types import Completion, FloatArray, Query


class AskedTier(StrEnum):
    """Name who is asked for a signal."""

    ANSWERING = "the tier that answered"
    LAST = "the last tier"
    VERIFIER = "a verifier model"


@dataclass(frozen=True, slots=True)
class VerifierTerms:
    """Hold what is known of a verifier model that the graph runs.

    Parameters
    ----------
    price : Price
        What its calls cost.
    digest : str
        What its scores depend on (weights, engine, what it is given to read); empty where that was not looked at.
    """

    price: Price
    digest: str = ""


USUAL_EXAMPLES = (
    Example("What is the capital of Australia?", "Sydney", ok=False),
    Example("A shirt costs 20 euros and is reduced by 25 %. What does it cost now?", "15 euros.", ok=True),
    Example("Which is larger, 9.11 or 9.9? Reply with the number alone.", "9.11", ok=False),
    Example("Translate to German: The library is closed on Sundays.", "Die Bibliothek ist sonntags zu.", ok=True),
)
"""What `self_verification` shows where the configuration names no examples: as many wrong answers as right ones."""


@dataclass(frozen=True, slots=True)
class AskedSettings:
    """Hold what can be set of the questions.

    Parameters
    ----------
    samples : int
        Further answers that `agreement` compares with, 1 or more.
    temperature : float
        What they are drawn at, above 0.
    max_tokens : int
        Tokens of each at most; of a longer one its beginning is compared.
    match : {"text", "number"}
        What agrees: equal texts, or equal last numbers.
    examples : tuple of Example
        Graded exchanges that `self_verification` shows first.
    verifiers : mapping of str to VerifierTerms
        The verifier models that the graph runs, by name.
    verdicts : int
        Verdicts in words that `self_verification` samples; 0: it reads P(True) of one token instead.
    verdict_temperature : float
        What they are drawn at, above 0.
    verdict_tokens : int
        Tokens of each at most.
    """

    samples: int = 3
    temperature: float = 0.7
    max_tokens: int = 128
    match: Literal["text", "number"] = "text"
    examples: tuple[Example, ...] = USUAL_EXAMPLES
    verifiers: Mapping[str, VerifierTerms] = field(default_factory=dict)
    verdicts: int = 0
    verdict_temperature: float = 0.7
    verdict_tokens: int = 48


USUAL_QUESTIONS = AskedSettings()
MakeCalls = Callable[[Query, Completion, AskedSettings], tuple[Query, ...]]
ReadReplies = Callable[[Completion, Sequence[Completion], AskedSettings], float]
CountTokens = Callable[[FloatArray, FloatArray, AskedSettings], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True)
class AskedSignal:
    """Hold one signal that is asked for.

    Parameters
    ----------
    name : str
        Its name in the table of signals.
    asks : AskedTier
        Who is asked.
    kinds : frozenset of TierKind
        The kinds of tiers that can be asked (`kinds_under`); of a verifier model: of whose answers.
    calls : callable
        The requests of a query and an answer to it, none of which depends on another's reply.
    read : callable
        The signal, from the answer and the replies in the order of the requests; NaN where they do not say.
    tokens : callable
        (prompt tokens, answer tokens) → prompt and answer tokens of all calls together, by which costs are foreseen.
    verifier : str
        The verifier model that is asked, by name; empty where a tier is.
    from_texts : callable, optional
        Whether the settings have it read off texts, which every kind of tier returns. None: never.
    """

    name: str
    asks: AskedTier
    kinds: frozenset[TierKind]
    calls: MakeCalls
    read: ReadReplies
    tokens: CountTokens
    verifier: str = ""
    from_texts: Callable[[AskedSettings], bool] | None = None

    def kinds_under(self, settings: AskedSettings) -> frozenset[TierKind]:
        """Return the kinds of tiers that can be asked as the settings have it."""
        return ALL_KINDS if self.from_texts is not None and self.from_texts(settings) else self.kinds

    def who(self, tier: str, last: str) -> str:
        """Return who is asked about a tier's answers, by name."""
        return {AskedTier.ANSWERING: tier, AskedTier.LAST: last, AskedTier.VERIFIER: self.verifier}[self.asks]
