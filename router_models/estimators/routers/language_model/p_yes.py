"""Ask a language model whether it can answer the question, and calibrate its probability of "yes".

The number is P(yes) of an answer constrained to yes or no: the two tokens' logprobs, not a sampled word. Small models
judge themselves poorly, so P(yes) is one feature with a learned slope, which may turn out negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import RouterModel, check_prompts_input, fitted, meta_of, metadata_of
from router_models.estimators.routers.language_model.causal import NextTokenEncoder
from router_models.types import FloatArray, Prompts

TEMPLATE = (
    "Here is a question:\n\n{prompt}\n\n"
    "Could a small language model answer it correctly? Reply with one word, yes or no."
)


def question_for(prompt: str, max_chars: int = 4000) -> str:
    """Return the question put to the model; long prompts are cut in the middle."""
    if len(prompt) > max_chars:
        prompt = prompt[: max_chars // 2] + "\n…\n" + prompt[-max_chars // 2 :]
    return TEMPLATE.format(prompt=prompt)


def p_yes(first_token_logprobs: Mapping[str, float]) -> float:
    """Return P(yes) among yes and no, in any spelling, from the logprobs of the reply's first token.

    Parameters
    ----------
    first_token_logprobs : mapping of str to float
        Natural logarithms by token.

    Returns
    -------
    float
        In [0, 1]; .5 where neither word is among the tokens.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in first_token_logprobs.items():
        word = token.strip(" ▁Ġ\n").lower()
        if word in mass:
            mass[word] += math.exp(min(logprob, 0.0))
    total = mass["yes"] + mass["no"]
    return 0.5 if total == 0.0 else mass["yes"] / total


class PYesRouter(RouterModel):
    """Calibrate a language model's own P(yes) by Platt scaling: σ(a·logit(P(yes)) + b).

    Parameters
    ----------
    column : str
        The metadata column that holds P(yes), numbers in [0, 1] as text, where the prompts have no signal `p_yes`.
    ask : callable, optional
        Returns P(yes) of a prompt, where a batch has no such column. Not stored with the router.
    """

    family = "p-yes"
    card = "needs the signal p_yes; one token of the cheap tier for every query, before it answers"
    apart = "asks a language model about every prompt, which recorded outcomes do not hold"
    reads = ("prompt", "p_yes")
    needs_metadata = ("p_yes",)
    needs_reader = True

    def __init__(self, column: str = "p_yes", ask: Callable[[str], float] | None = None) -> None:
        self.column, self.ask = column, ask
        self.slope_: tuple[float, float] | None = None

    @property
    def wants_signals(self) -> tuple[str, ...]:
        return ("p_yes",) if self.ask is None else ()

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        from sklearn.linear_model import LogisticRegression

        y = check_prompts_input(X, y)
        z = self._logits(X)[:, None]
        # A fractional target is both classes, weighted.
        model = LogisticRegression(C=10.0).fit(
            np.concatenate([z, z]), np.repeat([1, 0], len(y)), sample_weight=np.concatenate([y, 1 - y])
        )
        self.slope_ = float(model.coef_[0, 0]), float(model.intercept_[0])
        return self

    def predict(self, X: Prompts) -> FloatArray:
        a, b = fitted(self.slope_, self.family)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(a * self._logits(X) + b, -30, 30))), dtype=np.float64)

    def _logits(self, X: Prompts) -> FloatArray:
        if "p_yes" in X.signals:
            values = np.nan_to_num(X.signals["p_yes"], nan=0.5)
        elif self.ask is not None and self.column not in X.metadata:
            values = np.array([self.ask(text) for text in X.texts], dtype=np.float64)
        else:
            column = metadata_of(X, self.column)
            try:
                values = np.array([float(value) for value in column], dtype=np.float64)
            except ValueError as error:
                raise DataError(f"column {self.column!r} must hold probabilities ({error})") from error
        if not ((values >= 0) & (values <= 1)).all():
            raise DataError(f"P(yes) must lie in [0, 1]; check the column {self.column!r}")
        values = np.clip(values, 1e-4, 1 - 1e-4)
        return np.asarray(np.log(values / (1 - values)), dtype=np.float64)

    def state(self) -> State:
        return State(meta={"column": self.column, "slope": list(fitted(self.slope_, self.family))})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls(str(meta_of(state, "column")))
        a, b = meta_of(state, "slope")
        router.slope_ = float(a), float(b)
        return router


class YesEncoder(NextTokenEncoder):
    """Ask a local causal language model `question_for(prompt)`: text → (P(yes),) float32, of yes and no."""

    terms = (TEMPLATE,)

    def question(self, text: str) -> str:
        """Return `question_for(text)`."""
        return question_for(text)

    def read(self, logprobs: Any) -> float:
        """Return P(yes) among yes and no."""
        yes, no = (float(logprobs[self._spellings[word]].exp().sum()) for word in ("yes", "no"))
        return yes / (yes + no) if yes + no > 0 else 0.5

    @cached_property
    def _spellings(self) -> dict[str, list[int]]:
        """Return the vocabulary's tokens that `p_yes` reads as yes, and as no."""
        tokenizer, _ = self._loaded
        words = [tokenizer.decode([i]).strip().lower() for i in range(len(tokenizer))]
        return {word: [i for i, found in enumerate(words) if found == word] for word in ("yes", "no")}
