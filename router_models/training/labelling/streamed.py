"""From a file of labels to certified operating points: the streamed twin of `risk_control.certify.certify_policy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.errors import DataError, NotCertifiedError, by_number
from router_models.risk_control.certificates.promise import Streamed
from router_models.risk_control.certificates.risks import ACCEPTED_RISK, HARM_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.joint import CertifiedPolicy
from router_models.training.candidate import Settings
from router_models.training.labelling.plan import LabelPlan, LabelTask
from router_models.training.labelling.records import LabelRecord
from router_models.training.labelling.session import LabelSession
from router_models.training.whose_labels import LabelsUsed
from router_models.types import OperatingPoint


def planned_settings(plan: LabelPlan, settings: Settings) -> Settings:
    """The settings with what was fixed before the first label: budget, promise and look."""
    return replace(
        settings,
        epsilon=plan.epsilon,
        delta=plan.delta,
        promise=plan.promise,  # type: ignore[arg-type]  # checked by `promised`
        look_index=plan.look_index,
        slicer=None,
        max_drop=None,
    )


@dataclass(frozen=True, slots=True)
class StreamedLabels:
    """What was asked, and the labels that stand."""

    task: LabelTask
    records: tuple[LabelRecord, ...]

    @property
    def used(self) -> LabelsUsed:
        """Whose labels a certificate by them rests on."""
        return LabelsUsed(self.task.plan.label_source)


def certify_streamed(
    labels: StreamedLabels, terms: CertificateTerms, placed: Mapping[str, OperatingPoint]
) -> CertifiedPolicy:
    """Certify the most lenient threshold that the labels prove.

    Nothing is abstained from: labels of accepted answers say nothing of it.

    Parameters
    ----------
    labels : StreamedLabels
        What was asked, and what was said.
    terms : CertificateTerms
        Of the plan's settings.
    placed : mapping of str to OperatingPoint
        The candidate's points; the routing threshold stands.

    Raises
    ------
    NotCertifiedError
        With the labels missing, where the first threshold is not proved yet or cannot be.
    DataError
        For labels of rows that the task does not hold, and terms that are not the plan's.
    """
    task, records = labels.task, labels.records
    plan = task.plan
    if (terms.epsilon, terms.level) != (plan.epsilon, plan.level):
        raise DataError(f"labels were given for ε = {plan.epsilon:g} at level {plan.level:.3g}: certify that")
    check_records(task, records)
    session = LabelSession(task, records, "", len(records))
    stream, told = session.stream, session.summary()
    step = stream.proved
    if step is None:
        raise _not_proved(told)
    kappas = [pair["kappa"] for pair in told["agreement"] if pair["kappa"] is not None]
    certificate = terms.issue(
        HARM_RISK if plan.harm else ACCEPTED_RISK,
        n=max(told["labelled"], step.state.n),
        accepted_n=step.state.n,
        errors=step.state.errors,
        threshold=step.threshold,
    )
    streamed = Streamed(
        labelled=told["labelled"],
        stopped_at=step.state.n,
        e_value=step.state.e_value,
        proved=sum(one.proved for one in stream.steps),
        tried=len(plan.thresholds),
        labellers=len(told["labellers"]),
        kappa=min(kappas) if kappas else None,
    )
    cheap, top = plan.tiers[0], plan.tiers[-1]
    points = {
        cheap: replace(placed[cheap], accept_at=step.threshold),
        top: OperatingPoint(np.inf, -np.inf, None),
    }
    return CertifiedPolicy(points, replace(certificate, streamed=streamed))


def check_records(task: LabelTask, records: Sequence[LabelRecord]) -> None:
    """Raise DataError for labels of answers that were not asked."""
    asked = {(row.key, tier) for row in task.questions for tier in row.answers}
    if strange := [record for record in records if (record.row, record.tier) not in asked]:
        raise DataError(
            f"{len(strange)} {by_number(len(strange), 'label is of an answer', 'labels are of answers')} that "
            f"the plan does not ask (first: row {strange[0].row}, tier "
            f"{strange[0].tier!r}): the file was put together from several"
        )


def _not_proved(told: Mapping[str, object]) -> NotCertifiedError:
    at = told["under_test"]
    assert isinstance(at, dict)
    more = at["more"]
    hint = (
        "no answer is left to be labelled" if not at["left"]
        else "more labels are not likely to prove it" if more is None
        else f"about {more} more {by_number(more, 'label is', 'labels are')} likely to be needed, and {at['left']} "
        f"{by_number(at['left'], 'answer is', 'answers are')} left"
    )  # fmt: skip
    return NotCertifiedError(
        f"not proved by the labels so far: at {at['threshold']:.4g} {at['against']} of {at['labels']} count against "
        f"it (E = {at['e_value']:.3g}); {hint}",
        more,
    )
