"""A file of labels: JSON lines, the plan first, then one line for every label as it was given.

Lines are only ever appended, each as a whole, so that a session that is killed loses nothing, and the next one goes
on. What is taken back is a line as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_models.errors import ArtifactError
from router_models.training.labelling.plan import LabelPlan


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """One person's word on one answer.

    Parameters
    ----------
    row, tier : str
        The row's key, and whose answer it is.
    labeller : str
        Who says so.
    right : bool, optional
        None: skipped.
    adjudicated : bool
        Whether it settles a disagreement.
    at : str
        When, ISO 8601.
    """

    row: str
    tier: str
    labeller: str
    right: bool | None
    adjudicated: bool = False
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        """As one line of the file."""
        label = "skip" if self.right is None else "right" if self.right else "wrong"
        data = {"row": self.row, "tier": self.tier, "label": label, "labeller": self.labeller, "at": self.at}
        return data | ({"adjudicated": True} if self.adjudicated else {})


def begin_labels(path: Path, plan: LabelPlan) -> None:
    """Write the plan as the first line of a new file; it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(_line(plan.to_json()), encoding="utf-8")
    os.replace(partial, path)


def has_labels(path: Path) -> bool:
    """Whether a file was begun: it is there and not empty."""
    return path.exists() and path.stat().st_size > 0


def read_label_file(path: Path) -> tuple[LabelPlan, tuple[LabelRecord, ...]]:
    """The plan and the labels that stand, in the order in which they were given.

    A last line that was cut short when a session was killed is left out.

    Raises
    ------
    ArtifactError
        Naming the line, for a file that is none of labels.
    """
    whole = whole_lines(path)
    if not whole:
        raise ArtifactError(f"{path}: holds no labels; `serve-graph label` writes such a file")
    try:
        plan = LabelPlan.from_json(_object(whole[0][1]))
    except (ArtifactError, ValueError) as error:
        raise ArtifactError(f"{path}: not a file of labels, {error}") from error
    return plan, records_of(path, whole[1:])


def whole_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file with their numbers, blank ones left out, and a last one that was cut short."""
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    return [(number, line) for number, line in enumerate(lines[:-1], 1) if line.strip()]


def records_of(path: Path, lines: Iterable[tuple[int, str]]) -> tuple[LabelRecord, ...]:
    """The labels that stand of numbered lines; raises ArtifactError, naming the line, for one that is no label."""
    records: list[LabelRecord] = []
    for number, line in lines:
        try:
            data = _object(line)
            if "undo" in data:
                records = without_last(records, str(data["undo"]))
            else:
                records.append(_record(data))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: line {number} is no label ({error})") from error
    return tuple(records)


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    """Append one line and have it on the disk; what a killed session left of a line does not swallow it."""
    with path.open("ab+") as file:
        file.seek(-1, os.SEEK_END)
        torn = file.read(1) != b"\n"
        if torn:
            _drop_torn(file)
        file.write(_line(data).encode())
        file.flush()
        os.fsync(file.fileno())


def without_last(records: Sequence[LabelRecord], labeller: str) -> list[LabelRecord]:
    """The records without the last one of a labeller; as they are where there is none."""
    last = next((i for i in reversed(range(len(records))) if records[i].labeller == labeller), None)
    return [record for i, record in enumerate(records) if i != last]


def _drop_torn(file: Any) -> None:
    file.seek(0)
    kept = file.read().rpartition(b"\n")[0] + b"\n"
    file.truncate(len(kept))
    file.seek(0, os.SEEK_END)


def _record(data: Mapping[str, Any]) -> LabelRecord:
    label = data["label"]
    if label not in ("right", "wrong", "skip"):
        raise ValueError(f"its label is {label!r}: right, wrong or skip")
    right = None if label == "skip" else label == "right"
    row, tier, labeller = (str(data[name]) for name in ("row", "tier", "labeller"))
    return LabelRecord(row, tier, labeller, right, bool(data.get("adjudicated")), str(data.get("at", "")))


def _object(line: str) -> dict[str, Any]:
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=True, allow_nan=False) + "\n"
