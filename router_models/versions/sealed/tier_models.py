"""The models of one tier: how they are asked, what a verifier is shown, and how they are read back from a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from router_models.data.artifacts import load_state
from router_models.data.text_cache import each_text_once
from router_models.errors import ArtifactError, DataError
from router_models.estimators.asked_signals import asked_among
from router_models.estimators.calibrators.base import ScoreCalibrator
from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import ROUTERS, RouterModel
from router_models.estimators.routers.fallback import LengthFallback
from router_models.estimators.signals import COMES_WITH_AN_ANSWER
from router_models.estimators.verifiers import VERIFIERS, VerifierModel
from router_models.risk_control.certificates.certificate import Certificate
from router_models.types import Answers, Completion, FloatArray, Prompts

ROUTER_SCORE = "router_score"
"""The signal that holds the router's calibrated estimate."""


@dataclass(frozen=True)
class Stage:
    """The models of one tier: raw scores, and the calibrators that make them probabilities (None = as they are).

    `fallback`: what the estimate of a novel prompt is blended with; None: it is the router's, however novel.
    """

    router: RouterModel | None
    router_calibrator: ScoreCalibrator | None
    verifier: VerifierModel
    verifier_calibrator: ScoreCalibrator | None
    fallback: LengthFallback | None = None

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The signals that its verifier reads and that are asked for, in the order of their table."""
        return asked_among(self.verifier.wants_signals)

    def estimate_route(self, prompts: Prompts) -> FloatArray:
        """P(this tier's answer will be acceptable) for every prompt, (n,); DataError where the tier has no router."""
        return self.route(prompts)[0]

    def route(self, prompts: Prompts) -> tuple[FloatArray, FloatArray | None]:
        """`estimate_route` of every prompt, and its distance from the training data, (n,), None where not measured."""
        if self.router is None:
            raise DataError("this tier has no router")
        with each_text_once():
            p = _calibrated(self.router_calibrator, self.router.predict(prompts))
            return (p, self.router.distance(prompts)) if self.fallback is None else self.fallback.blended(prompts, p)

    def estimate_alone(self, prompts: Prompts) -> FloatArray:
        """The router's calibrated estimates without its fallback, (n,); DataError where the tier has no router."""
        if self.router is None:
            raise DataError("this tier has no router")
        with each_text_once():
            return _calibrated(self.router_calibrator, self.router.predict(prompts))

    def distance(self, prompts: Prompts) -> FloatArray | None:
        """`route`'s distances alone, (n,); None where they are not measured, or the tier has no router."""
        if self.fallback is not None:
            return self.fallback.distance(prompts)
        return None if self.router is None else self.router.distance(prompts)

    def estimate_ok(self, answers: Answers) -> FloatArray:
        """P(this answer is acceptable) for every answer, (n,), shown `as_served`."""
        return _calibrated(self.verifier_calibrator, self.verifier.predict(answers))


def as_served(answers: Answers, p_route: FloatArray | None, asked: Sequence[str] = ()) -> Answers:
    """The answers with exactly the signals that a verifier is shown when serving.

    Fitting, certifying and serving all pass through here, so that no verifier can learn from, or be certified with, a
    signal that a request does not bring: whatever else a table records of its answers is left out.

    Parameters
    ----------
    answers : Answers
        n answers; of their signals those stay that an answer brings by the table of `estimators.signals`.
    p_route : array of float, optional
        The router's calibrated estimate of every prompt, (n,), NaN where none was made; None where the verifier is
        not shown one (`shows_route`).
    asked : sequence of str
        The signals that are asked for about these answers (`estimators.asked_signals`); none by default.
    """
    brought = {*COMES_WITH_AN_ANSWER, *asked}
    signals = {name: column for name, column in answers.signals.items() if name in brought}
    return replace(answers, signals=signals if p_route is None else {**signals, ROUTER_SCORE: p_route})


def asked_signal_columns(stage: Stage, completion: Completion) -> dict[str, FloatArray]:
    """The signals that a stage's verifier asks for, of one answer, (1,) each; NaN where it was not had."""
    return {name: np.array([completion.signals.get(name, np.nan)]) for name in stage.asked}


def lacking_signals(asked: Sequence[str], completion: Completion) -> list[str]:
    """Those of the asked signals that an answer comes without."""
    return [name for name in asked if not np.isfinite(completion.signals.get(name, np.nan))]


def shows_route(tiers: Sequence[str], tier: str) -> bool:
    """Whether a tier's verifier is shown the router's estimate.

    Not at the top of three tiers or more: there the estimate depends on the way that led to the top.
    """
    return len(tiers) == 2 or tier != tiers[-1]


def together(certificates: Iterable[Certificate]) -> float:
    """The δ at which all statements of these certificates hold at once, by the union bound; at most 1."""
    return min(sum(certificate.delta_together for certificate in certificates), 1.0)


def parts_of(stage: Stage) -> dict[str, RouterModel | VerifierModel | ScoreCalibrator | LengthFallback | None]:
    """Everything of a tier that is learned, by what it does; a fallback only where there is one.

    Digests are made over these parts: without a fallback they are those of the releases that knew none.
    """
    parts: dict[str, RouterModel | VerifierModel | ScoreCalibrator | LengthFallback | None] = {
        "router": stage.router,
        "router_calibrator": stage.router_calibrator,
        "verifier": stage.verifier,
        "verifier_calibrator": stage.verifier_calibrator,
    }
    return parts if stage.fallback is None else {**parts, "fallback": stage.fallback}


def prefix_named(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The same stages under the names that their files begin with."""
    return {f"{tier}.prefix": stage for tier, stage in stages.items()}


def families_of(stages: Mapping[str, Stage]) -> dict[str, dict[str, str | None]]:
    """The registry names of every tier's models, as policy.json keeps them; None where there is none."""
    return {
        tier: {what: None if part is None else part.family for what, part in parts_of(stage).items()}
        for tier, stage in stages.items()
    }


def load_stage(folder: Path, tier: str, families: Mapping[str, str | None]) -> Stage:
    """Read one tier's models; raises ArtifactError for families that this release does not know."""

    def part(what: str, registry: Mapping[str, type]) -> object:
        family = families.get(what)
        if family is None:
            return None
        if family not in registry:
            raise ArtifactError(f"{folder}: unknown {what} family {family!r}; known: {', '.join(registry)}")
        state = load_state(folder, f"{tier}.{what}")
        try:
            return registry[family].from_state(state)  # type: ignore[attr-defined]
        except Exception as error:  # whatever a family makes of arrays that it never wrote
            said = f"{type(error).__name__}: {error!s:.300}"
            raise ArtifactError(f"{folder / tier}.{what}: not a {what} of the family {family!r} ({said})") from error

    if families.get("verifier") is None:
        raise ArtifactError(f"{folder}: tier {tier!r} has no verifier")
    return Stage(
        part("router", ROUTERS),  # type: ignore[arg-type]
        part("router_calibrator", CALIBRATORS),  # type: ignore[arg-type]
        part("verifier", VERIFIERS),  # type: ignore[arg-type]
        part("verifier_calibrator", CALIBRATORS),  # type: ignore[arg-type]
        part("fallback", {LengthFallback.family: LengthFallback}),  # type: ignore[arg-type]
    )


def _calibrated(calibrator: ScoreCalibrator | None, scores: FloatArray) -> FloatArray:
    return scores if calibrator is None else calibrator.predict(scores)
