"""Several verifiers as one: each member's out-of-fold estimate is a column of one calibrating regression.

`CombinedVerifier` joins evidence column by column and is the default; this joins whole verifiers, of any family. Use
it for members that cannot be reduced to columns (a reward model, a learned scorer).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.registry import original_name
from router_models.estimators.verifiers.base import VerifierModel, check_answers_input
from router_models.estimators.verifiers.learned.fitted import LearnedVerifier
from router_models.estimators.verifiers.learned.logistic import Logistic, folds_by_prompt, logit
from router_models.estimators.verifiers.learned.logprob import LogprobVerifier
from router_models.estimators.verifiers.learned.nested_state import join_states, split_state
from router_models.estimators.verifiers.rule_checks import RuleChecksVerifier
from router_models.types import Answers, FloatArray


class StackedVerifier(VerifierModel):
    """Combine named members: σ(Σ w_m·logit(p_m) + b).

    `fit` cross-fits every member, so that the weights are learned from out-of-fold estimates, then fits each on all
    rows.

    Parameters
    ----------
    members : mapping of str to VerifierModel, optional
        Unfitted templates by name, of which `fit` fits copies. By default logprob, checks and learned.
    folds : int
        Folds of the cross-fitting.
    seed : int
        Seeds the folds.

    Raises
    ------
    DataError
        For no members, or a name that contains '/'.
    """

    family = "stacked"
    card = "needs what its members need; costs their sum; (folds + 1) fits of each member"

    def __init__(self, members: Mapping[str, VerifierModel] | None = None, folds: int = 5, seed: int = 0) -> None:
        if members is None:
            members = {"logprob": LogprobVerifier(), "checks": RuleChecksVerifier(), "learned": LearnedVerifier()}
        if not members or any("/" in name for name in members):
            raise DataError(f"members need names without '/', at least one; given: {', '.join(members) or 'none'}")
        self.members = dict(members)
        self.folds = folds
        self.seed = seed
        self.members_: dict[str, VerifierModel] = {}
        self.model_: Logistic | None = None

    @property
    def wants_embeddings(self) -> bool:
        return any(member.wants_embeddings for member in (self.members_ or self.members).values())

    @property
    def wants_signals(self) -> tuple[str, ...]:
        names = [name for member in (self.members_ or self.members).values() for name in member.wants_signals]
        return tuple(dict.fromkeys(names))

    def fit(self, X: Answers, y: FloatArray) -> Self:
        y = check_answers_input(X, y)
        folds = folds_by_prompt(X.prompts.texts, y, self.folds, self.seed)
        estimates = np.full((len(y), len(self.members)), float(y.mean()))
        for fold in np.unique(folds):
            held_out = folds == fold
            if len(np.unique(y[~held_out])) < 2:
                continue
            for column, member in enumerate(self.members.values()):
                fitted = copy.deepcopy(member).fit(X.take(~held_out), y[~held_out])
                estimates[held_out, column] = fitted.predict(X.take(held_out))
        self.members_ = {name: copy.deepcopy(member).fit(X, y) for name, member in self.members.items()}
        self.model_ = Logistic.fit(logit(estimates), y, folds)
        return self

    def predict(self, X: Answers) -> FloatArray:
        if self.model_ is None:
            raise NotFittedError("StackedVerifier was used before fit")
        return self.model_.predict(logit(np.column_stack([m.predict(X) for m in self.members_.values()])))

    def state(self) -> State:
        if self.model_ is None:
            raise NotFittedError("StackedVerifier has no state before fit")
        parts = {f"member {name}": member.state() for name, member in self.members_.items()}
        families = [[name, original_name("verifier", member.family)] for name, member in self.members_.items()]
        return join_states(
            {"model": self.model_.state(), **parts}, {"members": families, "folds": self.folds, "seed": self.seed}
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        from router_models.estimators.verifiers import VERIFIERS  # the registry imports this file

        parts, meta = split_state(state)
        try:
            members = {name: VERIFIERS[family].from_state(parts[f"member {name}"]) for name, family in meta["members"]}
            verifier = cls(members, int(meta["folds"]), int(meta["seed"]))
            verifier.model_ = Logistic.from_state(parts["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a stored stacked verifier: {error!r}") from error
        if len(verifier.model_.coef) != len(members):
            raise ArtifactError(f"{len(members)} members but {len(verifier.model_.coef)} weights")
        verifier.members_ = members
        return verifier
