"""Fit router families, and attack each with the same rewritten prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.text_cache import each_text_once
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.evaluation.benchmarks.misrouting.attack import measure_misrouting
from router_models.evaluation.benchmarks.misrouting.results import Misrouting
from router_models.training.splits import LabelledSplits
from router_models.types import OperatingPoint, Progress
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import NOT_COMPARED
from router_models.versions.covering.attack_limits import certified_coverage
from router_models.versions.covering.perturbations import PERTURBATIONS, Perturbation
from router_models.versions.covering.rewriting import RIGHT, easiest
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

ORDINARY = 400
"""Prompts of CERT of which it is counted how many are not covered as they are, where several families are attacked."""


def measure_families(
    splits: LabelledSplits,
    families: Sequence[str],
    encoder: TextEncoder,
    *,
    epsilon: float,
    most: int,
    seed: int = 0,
    name: str | None = None,
    ways: Mapping[str, Perturbation] = PERTURBATIONS,
    compared: bool = True,
    progress: Progress = lambda _: None,
) -> list[Misrouting]:
    """Fit router families, and attack each as `measure_misrouting` does, with the same prompts and easy questions.

    What depends on a text alone, its embedding above all, is computed once for all of them.

    Parameters
    ----------
    splits : LabelledSplits
        Of two tiers, with embeddings where a family reads them.
    families : sequence of str
        Names in `ROUTERS`.
    encoder : TextEncoder
        What embedded the prompts.
    epsilon : float
        The largest share that may move.
    most : int
        Hard prompts of CERT to attack.
    seed : int
        Of the calibrators.
    name : str, optional
        What the attacked is called on the page; None: as its family.
    ways : mapping of str to Perturbation
        How prompts are rewritten; all ways by default.
    compared : bool
        Whether parts and spelling are compared; False: a control, that shows what that does.
    progress : callable
        Receives a sentence about each step.
    """
    found = []
    few = replace(splits, cert=splits.cert.take(np.arange(min(ORDINARY, len(splits.cert)))))
    with each_text_once():
        made = {}
        for family in families:
            progress(f"fitting {family}")
            made[family] = routed_version(few, family, encoder, seed, epsilon)
        easy = easiest([version for version, _ in made.values()], splits.train)
        cert = replace(splits.cert, answers={}) if len(families) > 1 else splits.cert
        for family, (version, coverage) in made.items():
            called = family if name is None else name
            coverage = coverage if compared else replace(coverage, text=NOT_COMPARED)
            attacked = measure_misrouting(
                version, coverage, cert, easy, name=called, epsilon=epsilon, most=most, ways=ways, progress=progress
            )
            unlike = dict(coverage.left_out).get("parts", 0)
            found.append(replace(attacked, ordinary=unlike / len(few.cert)))
    return found


def routed_version(
    splits: LabelledSplits, family: str, encoder: TextEncoder, seed: int, epsilon: float = 0.10
) -> tuple[RouterVersion, Coverage]:
    """Fit a router alone as `train` does, half of TUNE's prompts going to the cheaper of two tiers, uncertified.

    Returns the version, and the coverage that a certificate on CERT would have.
    """
    tiers = splits.tiers
    fitted = RouterWithFallback(ROUTERS[family]()).fit(splits.train.prompts, splits.train.grade(tiers[0]))
    scores = fitted.router.predict(splits.tune.prompts)
    calibrator = choose_calibrator(scores, (splits.tune.grade(tiers[0]) >= RIGHT).astype(np.float64), seed=seed)
    stage = Stage(fitted.router, calibrator, NonEmptyVerifier(), None, fitted.fallback_)
    half = float(np.median(stage.estimate_route(splits.tune.prompts)))
    version = RouterVersion(
        Policy(tiers, {tiers[0]: OperatingPoint(half, 0.0)}),
        {tiers[0]: stage},
        encoder=encoder,  # type: ignore[arg-type]
        novelty=NoveltyDetector().fit(splits.train.prompts, embedded=fitted.router.needs_embeddings),
        spelling=Spelling().fit(splits.train.prompts.texts),
    )
    return version, certified_coverage(version, splits.train, splits.tune, splits.cert, epsilon)
