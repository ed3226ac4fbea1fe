"""Ask a language model whether the question is within its reach, and calibrate what it says.

The number is P(yes) of an answer constrained to yes or no: the two tokens' logprobs, not a sampled word. Small models
are poor judges of themselves, so their word is one feature with a learned slope, which may turn out negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Self

import numpy as np

from router_models.artifacts import State
from router_models.errors import DataError
from router_models.routers.base import RouterModel, check_fit_input, fitted, meta_of, metadata_of
from router_models.types import FloatArray, Prompts

TEMPLATE = (
    "Here is a question:\n\n{prompt}\n\n"
    "Could a small language model answer it correctly? Reply with one word, yes or no."
)


def question_for(prompt: str, max_chars: int = 4000) -> str:
    """What the model is asked; long prompts are cut in the middle."""
    if len(prompt) > max_chars:
        prompt = prompt[: max_chars // 2] + "\n…\n" + prompt[-max_chars // 2 :]
    return TEMPLATE.format(prompt=prompt)


def p_yes(first_token_logprobs: Mapping[str, float]) -> float:
    """P(yes) among yes and no, in any spelling, from the logprobs of the reply's first token; .5 where neither is."""
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in first_token_logprobs.items():
        word = token.strip(" ▁Ġ\n").lower()
        if word in mass:
            mass[word] += math.exp(min(logprob, 0.0))
    total = mass["yes"] + mass["no"]
    return 0.5 if total == 0.0 else mass["yes"] / total


class AskedRouter(RouterModel):
    """Platt calibration, σ(a·logit(P(yes)) + b), of what the model said.

    P(yes) is read from the metadata column `column` (numbers in [0, 1] as text), or got from `ask`, a function of the
    prompt, where the batch has no such column. `ask` is not stored with the router.
    """

    family = "asked"
    card = "needs one constrained token from the cheap tier per query (its prefill time)"
    needs_metadata = ("p_yes",)

    def __init__(self, column: str = "p_yes", ask: Callable[[str], float] | None = None) -> None:
        self.column, self.ask = column, ask
        self.slope_: tuple[float, float] | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        from sklearn.linear_model import LogisticRegression

        y = check_fit_input(X, y)
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
        if self.ask is not None and self.column not in X.metadata:
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
