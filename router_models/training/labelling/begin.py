"""Begin a file of labels, or go on with one. To begin is a look at the prompts that certify, and is counted."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from router_models.errors import DataError
from router_models.training.candidate import Candidate, Settings
from router_models.training.labelling.label_budget import LabelBudget
from router_models.training.labelling.plan import LabelPlan, LabelTask, check_streamed, new_task, task_of
from router_models.training.labelling.records import LabelRecord, begin_labels, has_labels, read_label_file
from router_models.training.labelling.streamed import check_records
from router_models.training.splits import LabelledSplits
from router_models.types.label_sources import parsed_source
from router_models.versions.label_looks import is_noted
from router_models.versions.workspace import Workspace

PLAN_TAG = "plan"
"""The tag of a look that holds the digest of what was fixed before its first label."""


def check_noted(plan: LabelPlan, registry_uri: str) -> None:
    """Raise DataError for a plan that is not one that was noted before its first label was given."""
    if not is_noted(registry_uri, PLAN_TAG, plan.digest):
        raise DataError(
            "what the file of labels fixes before the first (thresholds, look, budget) is not what the registry noted "
            "then: it was changed since, or this is another registry"
        )


def open_labels(
    path: Path,
    candidate: Candidate,
    splits: LabelledSplits,
    settings: Settings,
    work: Workspace,
    now: datetime,
    *,
    label_source: str | None = None,
    only_look: bool = False,
) -> tuple[LabelTask, tuple[LabelRecord, ...]]:
    """What is to be labelled, and the labels that are there.

    Parameters
    ----------
    path : Path
        The file of labels; where it does not exist, thresholds, rows and look are fixed now and written to it.
    candidate, splits : Candidate, LabelledSplits
        As `new_task` takes them.
    settings : Settings
        What is to be promised; of a file that was begun, its own plan stands.
    work : Workspace
        Its registry counts the look.
    now : datetime
        When.
    label_source : str, optional
        Who labels; None: whom the file was begun for, people for a new one.
    only_look : bool
        A new file's look spends all of δ: it has to be the first at these prompts, and stays the only one.

    Raises
    ------
    NotCertifiedError
        Where TUNE says that nothing is likely to be proved; no look is spent.
    DataError, ArtifactError
        For another candidate, other outcomes, a file that is none of labels, or one whose look is not the only one
        where it should be.
    """
    try:
        source = parsed_source(label_source or "")
    except ValueError as error:
        raise DataError(f"label source {error}") from error
    if has_labels(path):
        plan, records = read_label_file(path)
        if source and source != plan.label_source:
            raise DataError(f"{path} was begun for labels of {plan.label_source}, not of {source}: begin another file")
        if only_look and plan.look_index:
            raise DataError(
                f"{path} was begun as look {plan.look_index} at these prompts, and its part of δ is fixed: go on with "
                "it without --looks 1"
            )
        task = task_of(plan, candidate, splits, settings.longest_prompt)
        check_records(task, records)
        return task, records
    check_streamed(settings)
    foreseen = LabelBudget(splits, settings, work, only=only_look).foreseen()
    task = new_task(candidate, splits, foreseen, now, source or "human")
    noted = {"streamed": path.name, PLAN_TAG: task.plan.digest}
    looked = LabelBudget(splits, settings, work, noted=noted, only=only_look).look()
    if looked.look_index != foreseen.look_index:
        raise DataError("somebody else looked at these labels in the same moment: begin again")
    begin_labels(path, task.plan)
    which = f"look {looked.look_index}" if looked.look_index else "the only look"
    work.progress(
        f"{which} at these prompts: δ {looked.level:.3g} for it; {len(task.questions)} of "
        f"{task.plan.prompts} answers may be asked, thresholds {', '.join(f'{t:.3g}' for t in task.plan.thresholds)}"
    )
    return task, ()
