"""The first N tokens of a cheap answer: what to judge them by, and the proof that they suffice to accept it.

What the stream mode `prefix` stands on. Prefixes are cut as the server cuts them (`prefixes`), judged by a
verifier of their own that was fitted on prefixes, and accepted at a threshold of their own. Answers of N tokens or
fewer are no part of it: they are judged whole, under the version's own certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from router_models.data.features import answers_of
from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable
from router_models.data.prefixes import prefix_of
from router_models.errors import DataError, NotCertifiedError
from router_models.estimators.asked_signals import asked_among
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.estimators.verifiers import VERIFIERS
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import HARM
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import WHOLE, certify_threshold, check_threshold
from router_models.training.splits import LabelledSplits
from router_models.types import Answers, Completion, FloatArray, IntArray
from router_models.versions.covering.covered_rows import covered_rows
from router_models.versions.router_version import RouterVersion, Stage
from router_models.versions.sealed.policy_file import PREFIX_TOKENS, prefix_point
from router_models.versions.sealed.tier_models import as_served

PREFIX_RISK = "P(wrong | cheap accepted by its first {tokens} tokens)"
PREFIX_HARM = "P({harm} | cheap accepted by its first {tokens} tokens)"
LENGTHS_TRIED = "prefix_lengths_tried"


@dataclass(frozen=True, slots=True)
class PrefixTable:
    """The rows of a table whose answer by a tier is longer than N tokens, with those first N; all (m,).

    `right` grades the *whole* answer. `answers` are what the prefix verifier sees.
    """

    rows: IntArray
    answers: Answers
    right: FloatArray

    def __len__(self) -> int:
        return len(self.rows)


def prefixes_of(table: OutcomeTable, tier: str, tokens: int) -> PrefixTable:
    """Cut every answer of a tier after N tokens; embeddings come along. `check_tokens` says what is needed."""
    kept = table.tokens[tier]
    cut: list[Completion] = []
    rows: list[int] = []
    for row, (texts, logprobs) in enumerate(zip(kept.texts, kept.logprobs, strict=True)):
        begun = prefix_of(texts, logprobs, tokens)
        if begun is not None:
            rows.append(row)
            cut.append(begun)
    index = np.array(rows, dtype=np.int64)
    answers = as_served(answers_of(table.prompts.take(index), cut), None)
    return PrefixTable(index, answers, table.grade(tier)[index])


def check_tokens(table: OutcomeTable, tier: str, tokens: int) -> None:
    """Raise DataError where a table cannot say what a tier's answers begin with, or N is no number of tokens."""
    table.grade(tier)
    if tokens < 1:
        raise DataError(f"a prefix is judged after 1 token or more, got {tokens}")
    asked = np.isfinite(table.grade(tier))
    kept = [len(texts) for texts in table.tokens[tier].texts] if tier in table.tokens else [0] * len(table)
    unknown = int((asked & (np.array(kept) == 0)).sum())
    if unknown:
        raise DataError(
            f"the tokens of {unknown} of {int(asked.sum())} answers of tier {tier!r} were not kept: it is not known "
            f"how they begin. Collect them again (`serve-graph collect --tier {tier}`)"
        )
    if max(kept, default=0) <= tokens:
        raise DataError(f"no answer of tier {tier!r} is longer than {tokens} tokens: ask for a shorter prefix")


def fit_prefix_stage(version: RouterVersion, tier: str, tokens: int, splits: LabelledSplits) -> Stage:
    """A verifier of the tier's own family, fitted on the prefixes of TRAIN and calibrated on those of TUNE.

    It is not shown the router's estimate, which TRAIN's own router would flatter. DataError where they are too few.
    """
    known, checking = (prefixes_of(part, tier, tokens) for part in (splits.train, splits.tune))
    family = version.stages[tier].verifier.family
    if asked := asked_among(VERIFIERS[family]().needs_signals):
        raise DataError(
            f"verifier {family} judges by {' and '.join(asked)}, asked for once the answer is whole: no verdict on "
            "its first tokens can have that. Train with another verifier, or certify without --prefix"
        )
    verifier = VERIFIERS[family]().fit(known.answers, known.right)
    return Stage(None, None, verifier, choose_calibrator(verifier.predict(checking.answers), checking.right))


def routed_to(version: RouterVersion, tier: str, table: OutcomeTable) -> IntArray:
    """The covered rows of a table that the version's policy sends to a tier, and of which it judges the first tokens.

    Not those that declare a shape (tools, JSON), which are judged whole. Embeddings must be present.
    """
    estimates = {
        name: stage.estimate_route(table.prompts) for name, stage in version.stages.items() if stage.router is not None
    }
    decided = [
        version.policy.decide({name: float(p[row]) for name, p in estimates.items()}).tier for row in range(len(table))
    ]
    sent = np.array(decided) == tier
    sent &= [not one.tools and one.response_format in ("", "text") for one in conditions_of_table(table)]
    if version.certificate is not None:
        sent &= covered_rows(version.certificate.coverage, version, table)
    return np.flatnonzero(sent)


def labelled_prefixes(
    stage: Stage, tier: str, tokens: int, routed: OutcomeTable, *, last: str | None = None
) -> Labelled:
    """Score the prefixes of answers longer than N tokens, of prompts routed to the tier, as the server would.

    Marked are those of wrong answers; where `last` is given only where that tier's answer is right, or not graded.
    """
    begun = prefixes_of(routed, tier, tokens)
    if len(begun) == 0:
        return Labelled.of(np.empty(0), np.empty(0))
    wrong = 1.0 - begun.right
    if last is not None:
        wrong = wrong * np.nan_to_num(routed.grade(last)[begun.rows], nan=1.0)
    return Labelled.of(stage.estimate_ok(begun.answers), wrong)


def certify_prefix(
    version: RouterVersion,
    tier: str,
    lengths: Sequence[int],
    splits: LabelledSplits,
    terms: CertificateTerms,
    look: Callable[[], CertificateTerms] | None = None,
) -> RouterVersion:
    """The version with a prefix point for `tier`, of the first length that certifies; its `binds` are still to be set.

    P(wrong | accepted by the first N tokens) ≤ ε with confidence 1 - δ, among answers longer than N; of a version that
    promises harm, P(wrong and the last tier right | …).

    Parameters
    ----------
    version : RouterVersion
        A certified version of two tiers.
    tier : str
        A tier below the last that has an operating point.
    lengths : sequence of int
        The numbers of tokens to try, in this order.
    splits : LabelledSplits
        Those the version was made on, with embeddings.
    terms : CertificateTerms
        Their δ is this promise's own; every length gets an equal part of it, since each is a test on the same labels.
    look : callable, optional
        Called right before the first CERT label is read; gives the terms of the look that it was.

    Raises
    ------
    NotCertifiedError
        With each length's reason.
    DataError
        For bad input.
    """
    if tier not in version.policy.points or tier == version.policy.top:
        raise DataError(f"a prefix needs a tier below the last with an operating point, got {tier!r}")
    stages: dict[int, Stage] = {}
    last = version.policy.top if version.certificate is not None and version.certificate.harm else None
    routed = [part.take(routed_to(version, tier, part)) for part in (splits.tune, splits.cert)]

    def labelled(tokens: int) -> tuple[Labelled, Labelled]:
        stages[tokens] = stage = fit_prefix_stage(version, tier, tokens, splits)
        tune, cert = (labelled_prefixes(stage, tier, tokens, part, last=last) for part in routed)
        return tune, cert

    certificate = first_certified(lengths, labelled, terms, look, harm=last is not None)
    return _with_point(version, tier, stages[int(certificate.settings[PREFIX_TOKENS])], certificate)


def first_certified(
    lengths: Sequence[int],
    labelled: Callable[[int], tuple[Labelled, Labelled]],
    terms: CertificateTerms,
    look: Callable[[], CertificateTerms] | None = None,
    *,
    harm: bool = False,
) -> Certificate:
    """The certificate of the first length that has one; `labelled` gives the TUNE and CERT prefixes of a length.

    Every length is tested at δ / len(lengths), so that all of them together keep 1 - δ however they are chosen from.
    Raises NotCertifiedError with each length's reason.
    """
    seen: dict[int, tuple[Labelled, Labelled]] = {}
    refused: dict[int, NotCertifiedError] = {}
    risk = PREFIX_HARM if harm else PREFIX_RISK
    each = replace(terms, delta=terms.delta / len(lengths))
    for tokens in lengths:
        with _refusing(tokens, refused):
            tune, cert = labelled(tokens)
            check_threshold(tune, (WHOLE,) * len(cert), each, what=risk.format(tokens=tokens, harm=HARM))
            seen[tokens] = tune, cert
    if seen and look is not None:
        terms = look()
        each = replace(terms, delta=terms.delta / len(lengths))
    for tokens, (tune, cert) in seen.items():
        with _refusing(tokens, refused):
            certificate = certify_threshold(tune, cert, each, what=risk.format(tokens=tokens, harm=HARM))
            named = {PREFIX_TOKENS: float(tokens), LENGTHS_TRIED: float(len(lengths))}
            return replace(certificate, delta=terms.delta, settings=named)
    missing = [error.labels_missing for error in refused.values() if error.labels_missing is not None]
    told = "; ".join(refused[tokens].reason for tokens in lengths)
    raise NotCertifiedError(told, min(missing) if missing else None)


@contextmanager
def _refusing(tokens: int, refused: dict[int, NotCertifiedError]) -> Iterator[None]:
    """Keep why a length is not certified, under its number of tokens."""
    try:
        yield
    except NotCertifiedError as error:
        refused[tokens] = NotCertifiedError(f"first {tokens} tokens: {error.reason}", error.labels_missing)
    except DataError as error:
        refused[tokens] = NotCertifiedError(f"first {tokens} tokens: too few answers are longer ({error})")


def _with_point(version: RouterVersion, tier: str, stage: Stage, certificate: Certificate) -> RouterVersion:
    policy = version.policy
    return replace(
        version,
        policy=replace(policy, prefixes={**policy.prefixes, tier: prefix_point(certificate)}),
        prefix_stages={**version.prefix_stages, tier: stage},
        prefix_certificates={**version.prefix_certificates, tier: certificate},
    )
