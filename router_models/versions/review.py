"""The review of a version: who says that it may take traffic, as tags that `versions approve` or a person sets.

    review             proposed | approved | rejected
    review.by          who
    review.at          when, ISO 8601
    review.reason      why
    review.recorded    the state that the three above were written for

In MLflow's page the tag `review` can be edited by hand. `review.recorded` then differs from it, and the other three,
which belong to an earlier review, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from router_models.errors import RegistryError

if TYPE_CHECKING:
    from router_models.versions.registry import RegisteredVersion

ReviewWord = Literal["proposed", "approved", "rejected", "none", "unclear"]
TAG, RECORDED = "review", "review.recorded"
FORMER_TAG = "status"
"""Held the review up to release 0.2: its rejections are kept, its approvals were also given by `certify` itself."""
FIRST_START = "first start"
"""Who approved the version that `up` made of the shipped outcomes where there was none."""
LONGEST_NOTE = 2000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_WORDS: Mapping[str, ReviewWord] = {
    "proposed": "proposed",
    "propose": "proposed",
    "pending": "proposed",
    "approved": "approved",
    "approve": "approved",
    "rejected": "rejected",
    "reject": "rejected",
    "": "none",
}


@dataclass(frozen=True, slots=True)
class Review:
    """What is known of a version's review.

    Parameters
    ----------
    state : {"proposed", "approved", "rejected", "none", "unclear"}
        `none`: the version has no such tag. `unclear`: `fault` says why the tag cannot be read.
    by, at, reason : str, optional
        Who, when and why; None where the tag was set without saying so.
    fault : str, optional
        What is wrong with an unclear tag.
    """

    state: ReviewWord
    by: str | None = None
    at: str | None = None
    reason: str | None = None
    fault: str | None = None

    @property
    def approved(self) -> bool:
        """Whether the version may take traffic, as far as its review goes."""
        return self.state == "approved"

    def text(self) -> str:
        """All of it: `approved by: anna, 2026-11-28: read the report`."""
        why = self.fault or self.reason
        return f"{self.line()}{f': {why}' if why else ''}"

    def line(self) -> str:
        """ReviewWord, reviewer and date, for a table: `approved by: anna, 2026-11-28`."""
        if self.state == "none":
            return "not reviewed"
        noted = ", ".join(part for part in (self.by and f"by: {self.by}", self.at and self.at[:10]) if part)
        return f"{self.state}{f' {noted}' if noted else ''}"

    def to_json(self) -> dict[str, str | None]:
        """The review as plain data."""
        return {"state": self.state, "by": self.by, "at": self.at, "reason": self.reason, "fault": self.fault}


def review_state(version: RegisteredVersion) -> Review:
    """Return a version's review, read from its tags alone: no I/O.

    Case, spaces around a word and quotes do not matter, in the tag's name either. A word that is none of the three,
    and tags that contradict each other, are `unclear`, which is as good as not approved.
    """
    tags = version.tags
    said = {key: value for key, value in tags.items() if key.strip().casefold() == TAG}
    states = {key: _WORDS.get(value.strip().strip("'\"`").strip().casefold()) for key, value in said.items()}
    if unknown := sorted(key for key, state in states.items() if state is None):
        word = said[unknown[0]][:40]
        return Review("unclear", fault=f"the tag {unknown[0]!r} says {word!r}, not proposed, approved or rejected")
    known = {state for state in states.values() if state is not None} - {"none"}
    if len(known) > 1:
        told = " and ".join(f"{key!r}: {said[key]!r}" for key in sorted(said))
        return Review("unclear", fault=f"its tags contradict each other ({told})")
    state: ReviewWord = known.pop() if known else "none"
    if _WORDS.get(tags.get(FORMER_TAG, "").strip().casefold()) == "rejected" and state != "rejected":
        return Review("rejected")
    if state == "none" or tags.get(RECORDED, state) != state:
        return Review(state)
    by, at, reason = (tags.get(f"{TAG}.{what}", "").strip() or None for what in ("by", "at", "reason"))
    return Review(state, by, at, reason)


def review_refusal(version: RegisteredVersion) -> str | None:
    """Return why a version's review keeps it from traffic, with the command that mends it; None where it does not.

    Neither names nor reasons of reviewers are in it: it is shown to everybody who asks a graph for its state.
    """
    review = review_state(version)
    if review.approved:
        return None
    approve = f'`serve-graph versions approve {version.number} --by NAME --reason "…"`'
    if review.state == "rejected":
        return f"{version.name} was rejected in review: promote another version, or approve it ({approve})"
    if review.state == "unclear":
        return f"the review of {version.name} is unclear: {review.fault}; correct the tag in MLflow, or {approve}"
    read = f"read `serve-graph versions show {version.number}`, then {approve}"
    if review.state == "proposed":
        return f"{version.name} is proposed and not approved: {read}"
    return f"{version.name} is not reviewed: {read}"


def review_tags(state: Literal["approved", "rejected"], by: str, at: datetime, reason: str) -> dict[str, str]:
    """Return the tags of a review, in an order in which one that is set halfway approves nothing.

    Raises
    ------
    RegistryError
        For a reviewer or a reason that is empty, too long or holds control characters.
    """
    notes = {"by": by.strip(), "reason": reason.strip()}
    for what, note in notes.items():
        if not note:
            raise RegistryError(f"a review needs a --{what}: it is empty")
        if len(note) > LONGEST_NOTE:
            raise RegistryError(f"--{what} has {len(note)} characters: {LONGEST_NOTE} are allowed")
        if _CONTROL.search(note):
            raise RegistryError(f"--{what} holds characters that cannot be printed: leave them out")
    noted = {
        f"{TAG}.by": notes["by"],
        f"{TAG}.at": at.isoformat(timespec="seconds"),
        f"{TAG}.reason": notes["reason"],
        RECORDED: state,
    }
    return {**noted, TAG: state} if state == "approved" else {TAG: state, **noted}
