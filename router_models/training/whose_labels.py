"""Judges tune, people certify: whose labels a certificate may rest on, and what it says of them.

A judge's labels may fit models and place thresholds (TRAIN, TUNE). In CERT they count only where there are no others,
or where they are asked for, and then what is certified is agreement with that judge. Certificates that mix a judge's
labels with others' would promise neither, and are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from router_models.data.table import OutcomeTable
from router_models.errors import DataError, by_number
from router_models.types import BoolArray
from router_models.types.drawn import chosen_rows
from router_models.types.label_sources import by_judge, combined_source, parsed_source

Evidence = Literal["given", "judge", "asked"]
"""Which labels certify: those of the rows, a judge's only where there are no others; a judge's alone; or none of the
rows', since people are asked for theirs."""
CHOSEN = "rows chosen, not drawn"
"""Under what a certificate counts rows of served traffic that certify nothing, for how they were chosen."""


@dataclass(frozen=True, slots=True)
class LabelsUsed:
    """Whose labels certify: `source` as `Certificate.label_source` holds it, and the prompts left out by source."""

    source: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def with_label_source(table: OutcomeTable, source: str | None) -> OutcomeTable:
    """The table with a source for every grade whose source is not said.

    Parameters
    ----------
    table : OutcomeTable
        The outcomes.
    source : str, optional
        `human`, `programmatic`, `judge` or `judge:<name>`; None changes nothing. `judge:<name>` also names a judge
        whose rows say `judge`; beside people's labels it says which labels are to certify.

    Raises
    ------
    DataError
        For anything else, and for rows that say something else: nobody is contradicted.
    """
    if source is None:
        return table
    try:
        wanted = parsed_source(source)
    except ValueError as error:
        raise DataError(f"label source {error}") from error
    if not wanted:
        raise DataError("a label source of nothing says nothing: leave it out")
    stated: dict[str, tuple[str, ...]] = {}
    for tier in table.tiers:
        given = table.label_source(tier)
        if other := Counter(said for said in given if said and not _agree(said, wanted)):
            told = ", ".join(f"{n} {said}" for said, n in sorted(other.items()))
            raise DataError(
                f"label source {wanted!r} contradicts the table, whose labels of tier {tier!r} say: {told}. It is for "
                "rows that say nothing: leave it out, or correct the column"
            )
        stated[tier] = tuple(_filled(said, wanted) for said in given)
    return replace(table, label_sources=stated)


def evidence_asked_for(source: str | None) -> Evidence:
    """Which labels certify for a source that `with_label_source` took: a judge's is asked for, others fill gaps."""
    return "judge" if source is not None and by_judge(parsed_source(source)) else "given"


def rows_that_count(table: OutcomeTable, tiers: Sequence[str], evidence: Evidence) -> BoolArray:
    """Which rows of CERT may be evidence for whose labels they are, (n,).

    Parameters
    ----------
    table : OutcomeTable
        CERT.
    tiers : sequence of str
        The tiers whose labels the promise counts.
    evidence : {"given", "judge", "asked"}
        Which labels certify.
    """
    if evidence == "asked":
        return np.ones(len(table), dtype=np.bool_)
    judged = np.zeros(len(table), dtype=np.bool_)
    for tier in tiers:
        judged |= np.array([by_judge(said) for said in table.label_source(tier)], dtype=np.bool_)
    if evidence == "judge":
        return judged
    return judged if judged.all() else ~judged


def without_chosen(table: OutcomeTable) -> OutcomeTable:
    """The rows that may speak for traffic: all but those of served traffic that something other than chance chose.

    Raises
    ------
    DataError
        Where that leaves none.
    """
    chosen = chosen_rows(table.prompts)
    if len(table) and chosen.all():
        raise DataError(
            f"all {len(table)} rows were chosen by what answered them or by who graded them (column `drawn`): they "
            "say nothing of the traffic as a whole. They train; what estimates or certifies needs rows that were drawn"
        )
    return table.take(~chosen) if chosen.any() else table


def labels_used(cert: OutcomeTable, left_out: OutcomeTable, tiers: Sequence[str]) -> LabelsUsed:
    """What the certificate of these CERT rows names; DataError, by name, where a judge's labels are mixed with others.

    `left_out` are the rows of CERT's prompts that do not count.
    """
    try:
        source = combined_source(said for tier in tiers for said in _sources(cert, tier)) if len(cert) else ""
    except ValueError as error:
        raise DataError(
            f"{error} in CERT: such a certificate would promise neither. A judge's labels train and tune; certify on "
            "people's or programs' labels of the tiers that the promise counts, or on one judge's alone with "
            "--label-source judge:NAME"
        ) from error
    without: dict[str, set[int]] = {}
    chosen = chosen_rows(left_out.prompts)
    for i, group in enumerate(left_out.groups.tolist()):
        if chosen[i]:
            without.setdefault(CHOSEN, set()).add(group)
            continue
        said = {left_out.label_source(tier)[i] for tier in tiers}
        name = next((one for one in sorted(said) if by_judge(one)), " and ".join(sorted(filter(None, said))))
        without.setdefault(name or "unstated source", set()).add(group)
    return LabelsUsed(source, {name: len(groups) for name, groups in sorted(without.items())})


def check_graded_alike(cert: OutcomeTable) -> None:
    """Raise DataError where a table says that two tiers' answers to one prompt were graded by different graders.

    Harm compares the two grades: a grader of the last tier alone who marks right answers wrong hides harm.
    """
    last = cert.tiers[-1]
    for tier in cert.tiers[:-1]:
        graders = [
            (own, other)
            for own, other, grade in zip(
                cert.label_source(tier), cert.label_source(last), cert.grade(last), strict=True
            )
            if own != other and np.isfinite(grade)
        ]
        if graders:
            own, other = (said or "nobody who is named" for said in Counter(graders).most_common(1)[0][0])
            raise DataError(
                f"on {len(graders)} {by_number(len(graders), 'prompt')} {tier!r} and {last!r} were graded by "
                "different graders (for example "
                f"{own} and {other}): harm compares the two grades, and a harsher grader of {last!r} would hide it. "
                f"Grade both alike, or leave {last!r} ungraded there, which counts as right; or --promise accepted"
            )


def _sources(cert: OutcomeTable, tier: str) -> list[str]:
    """Who gave a tier's grades; nobody where there is none."""
    given = zip(cert.label_source(tier), cert.grade(tier), strict=True)
    return [said for said, grade in given if np.isfinite(grade)]


def _agree(said: str, wanted: str) -> bool:
    """Whether a row may stay as it is, or be named more exactly; a judge is chosen among others' labels."""
    if not by_judge(wanted):
        return said == wanted
    return not by_judge(said) or "judge" in (said, wanted) or said == wanted


def _filled(said: str, wanted: str) -> str:
    return wanted if not said or (said == "judge" and by_judge(wanted)) else said
