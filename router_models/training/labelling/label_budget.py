"""How much of δ the labels of a certificate may still spend: which look at them this is, and which labels they are.

Every certificate that reads the same labels is one more test on them, whatever table they stand in. All looks
together keep their promises with confidence 1 - δ because look i spends 6δ/(π²i²) (`sequence.spent_delta`). Labels are
known by their prompts: a column that is dropped, a tier that is renamed or asked again makes none of them fresh.

Whoever chose a family or a threshold on labels has looked at them as well: `plan` and `evaluate` leave a note.

The first of several looks spends .61 of δ. Whoever needs all of it for one look gives up every other one, for good.

A random sample of served traffic was taken as one of k that were tried, the largest that is whole; of several samples
in one table k is the product of theirs, as it was chosen of all combinations (`types.drawn`). Each of the k has
1/k of what a look may spend: its look i counts as the ⌈i·√k⌉-th, whose level is no more than that.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from router_models.data.artifacts import read_json_file
from router_models.data.outcomes import OutcomeTable, group_duplicates
from router_models.errors import ArtifactError, DataError
from router_models.training.candidate import Settings
from router_models.training.splits import LabelledSplits
from router_models.types.drawn import draws_tried
from router_models.versions.label_looks import looks_at, record_look
from router_models.versions.workspace import Workspace

ONLY_LOOK = "only_look"
"""The tag of a look that spent all of δ."""


class LabelBudget:
    """The looks at one set of CERT labels.

    Parameters
    ----------
    splits : LabelledSplits
        Whose CERT labels are to be read, whether or not rows were added since the last look.
    settings : Settings
        What is to be promised.
    work : Workspace
        Its registry keeps the looks, its state folder the notes of `plan` and `evaluate`.
    purpose : str
        A promise with a δ of its own counts its looks apart, under this name; '' is the version's own.
    noted : mapping of str to str, optional
        What else to note of this look.
    only : bool
        Spend all of δ in this look: it has to be the first, and none is let through after it.
    """

    def __init__(
        self,
        splits: LabelledSplits,
        settings: Settings,
        work: Workspace,
        *,
        purpose: str = "",
        noted: Mapping[str, str] | None = None,
        only: bool = False,
    ) -> None:
        self._settings, self._work, self._only = settings, work, only
        labels = labels_read(splits)
        self.choices = choices_on(work.state_folder, labels)
        self.draws = draws_tried(splits.cert.prompts)
        labels |= _former_labels(splits)
        digest = splits.table.content_hash
        self._labels = frozenset(f"{purpose} {label}" for label in labels) if purpose else labels
        self._digest = f"{digest}.{purpose}" if purpose else digest
        self._noted = {"epsilon": str(settings.epsilon), "delta": str(settings.delta), **(noted or {})}
        self._noted |= {ONLY_LOOK: "true"} if only else {}

    def foreseen(self) -> Settings:
        """The settings of the next look at these labels, which is not noted yet.

        DataError where an earlier look has spent all of δ, or this one shall and is not the first.
        """
        before = looks_at(self._work.registry_uri, self._digest, self._labels)
        if any(ONLY_LOOK in tags for tags in before):
            raise DataError(
                "an earlier certificate spent the whole δ of these labels (--looks 1): nothing more can be certified "
                "by them. Certify by the labels of other prompts"
            )
        return self._numbered(len(before) + len(self.choices) + 1)

    def look(self) -> Settings:
        """Note a look in the registry, before a label is read; the settings of that look. Raises like `foreseen`."""
        self.foreseen()  # what is refused is not noted
        index = record_look(self._work.registry_uri, self._digest, self._labels, self._noted, self._work.artifacts)
        if not self._only:
            self.foreseen()  # an only look may have been noted meanwhile
        return self._numbered(index + len(self.choices))

    def _counts_as(self, look: int) -> int:
        return math.ceil(look * math.sqrt(self.draws))

    def _numbered(self, index: int) -> Settings:
        index = self._counts_as(index)
        if self._only and index > 1:
            chose = f" ({', '.join(self.choices)} chose on them)" if self.choices else ""
            chose += f" (they are one of {self.draws} samples that were tried)" if self.draws > 1 else ""
            raise DataError(
                f"--looks 1 spends the whole δ in the first look at these labels, and this is look {index}{chose}: "
                "certify without it, or by the labels of other prompts"
            )
        return replace(self._settings, look_index=0 if self._only else index)


def labels_read(splits: LabelledSplits) -> frozenset[str]:
    """16 hex digits for every group of prompts that CERT stands for: the prompts' letters and digits, and the groups.

    All rows of a group count, also those that were not drawn. Nothing else of the table matters.
    """
    rows = np.isin(splits.table.groups, splits.cert.groups)
    return prompt_labels(splits.table.take(rows), splits.group_by)


def prompt_labels(table: OutcomeTable, group_by: str | None = None) -> frozenset[str]:
    """The labels of every row of a table, as `labels_read` names them."""
    said = {f"prompt\x1f{group}" for group in group_duplicates(table.prompts.texts).tolist()}
    if group_by:
        said |= {f"{group_by}\x1f{value}" for value in table.column(group_by) if value}
    return frozenset(map(_digits, said))


def note_choice(state_folder: Path, labels: Collection[str], command: str, tried: Sequence[str]) -> None:
    """Note that a command compared these families or patterns on these labels; the same comparison is noted once."""
    data = {"command": command, "tried": sorted(tried), "labels": sorted(labels)}
    text = json.dumps(data)
    folder = state_folder / "looks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{command}-{_digits(text)}.json").write_text(text)


def choices_on(state_folder: Path, labels: Collection[str]) -> list[str]:
    """The commands that chose on one of these labels, once for every different comparison."""
    found = []
    for file in sorted((state_folder / "looks").glob("*.json")):
        data = read_json_file(file)
        if not isinstance(data, dict) or not isinstance(data.get("labels"), list):
            raise ArtifactError(
                f"{file}: not a look that `train` or `evaluate` noted; it counts, so it is not passed over"
            )
        if not frozenset(map(str, data["labels"])).isdisjoint(labels):
            found.append(str(data.get("command")))
    return found


def _former_labels(splits: LabelledSplits) -> frozenset[str]:
    """The same labels as releases up to 0.2 noted them, so that looks from before an update go on counting."""
    cert = splits.table.take(np.isin(splits.table.groups, splits.cert.groups))
    groups = group_duplicates(cert.prompts.texts).tolist()
    found: set[str] = set()
    for tier in splits.tiers:
        texts = cert.answers_of(tier).texts
        measured = [cert.grade(tier), *(c[tier] for c in (cert.completion_tokens, cert.latency_s) if tier in c)]
        for group, text, *numbers in zip(groups, texts, *measured, strict=True):
            found.add(_digits("\x1f".join([tier, str(group), text, *(repr(float(number)) for number in numbers)])))
    return frozenset(found)


def _digits(said: str) -> str:
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]
