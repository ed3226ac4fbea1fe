"""What people's labels on a random sample say of a whole batch: wrong and harmful answers, with exact intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_models.errors import by_number
from router_models.training.labelling.records import LabelRecord
from router_models.training.labelling.votes import agreements, votes_of
from serve_graph.cli.batch.dataset import labels_beside
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.quality.exact import exact_share, share_text
from serve_graph.cli.batch.quality.labels import LAST, SHOWN, read_labels
from serve_graph.cli.batch.quality.sample import DrawnAnswer, is_drawn_file, read_drawn
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.risk_control.certificates.certificate import Certificate

KEPT = frozenset({"accepted"})
"""The outcome of an answer of a tier below the last that was given: what certificates speak of."""


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """A drawn answer, who gave it, and what people say: None where that is not known."""

    tier: str
    outcome: str
    right: bool | None
    last_right: bool | None

    @property
    def is_kept(self) -> bool:
        """Whether a tier below the last gave it, and it was accepted."""
        return self.outcome in KEPT


def labelled_answers(
    drawn: Iterable[DrawnAnswer], records: Iterable[LabelRecord], journal: Journal
) -> tuple[list[LabelledAnswer], int]:
    """The drawn answers up to the last one with a label, and how many come after that.

    In a random order whatever part was looked at first is a random sample by itself. One in between without a label
    (skipped, disputed) may be wrong or right.

    Raises ServeGraphError where the journal does not know a row.
    """
    votes = votes_of(records)
    found: list[LabelledAnswer] = []
    until = 0
    for one in drawn:
        noted = journal.find(one.key)
        if noted is None:
            raise ServeGraphError(f"{journal.path} knows nothing of a row of the sample: they are not of one run")
        shown, last = votes.get((one.key, SHOWN)), votes.get((one.key, LAST))
        right = one.value if shown is None else shown.right
        last_right = one.last_tier_right if last is None else last.right
        found.append(LabelledAnswer(str(noted.get("tier")), str(noted.get("outcome")), right, last_right))
        if right is not None or (shown is not None and shown.said):
            until = len(found)
    return found[:until], len(found) - until


def batch_quality(sample: Path, labels: Path | None = None, journal: Path | None = None) -> dict[str, Any]:
    """What a sample's labels say of the batch that it was drawn from. `labels`, `journal`: where not beside it.

    Raises ServeGraphError where a file is none of these, or nothing is labelled yet.
    """
    path = journal or sample.with_name(f"{sample.name.removesuffix('.audit.jsonl')}.journal")
    if not path.is_file():
        raise ServeGraphError(f"there is no journal {path}, which knows who gave the answers: name it with --journal")
    opened = Journal(path)
    try:
        found = _quality(sample, labels or labels_beside(sample), opened)
    finally:
        opened.close()
    if found is None:
        raise ServeGraphError(f"nothing is labelled of {sample} yet: serve-graph label {sample}")
    return found


def labelled_so_far(sample: Path, journal: Journal) -> dict[str, Any] | None:
    """As `batch_quality`, for a run that has its journal open; None where nothing is drawn or labelled."""
    return _quality(sample, labels_beside(sample), journal) if is_drawn_file(sample) else None


def _quality(sample: Path, labels: Path, journal: Journal) -> dict[str, Any] | None:
    drawn, records = read_drawn(sample), read_labels(labels)
    answers, left = labelled_answers(drawn.answers, records, journal)
    if not answers:
        return None
    shown = {item: vote for item, vote in votes_of(records).items() if item[1] == SHOWN}
    pairs = [
        {"between": list(pair.labellers), "n": pair.n, "agree": pair.agree, "kappa": pair.kappa}
        for pair in agreements(shown)
    ]
    return told_of(answers, drawn.of, left) | {"agreement": pairs}


def told_of(answers: list[LabelledAnswer], of: int, left: int) -> dict[str, Any]:
    """Shares of wrong answers in all, by tier and by outcome, and of harmful ones among those that were kept."""
    kept = [one for one in answers if one.is_kept]
    harmed = sum(one.right is False and one.last_right is True for one in kept)
    unknown = sum(one.right is None or (one.right is False and one.last_right is None) for one in kept)
    wrong = _wrong(answers)
    return {
        "answers": of,
        "labelled": sum(one.right is not None for one in answers),
        "without_label": sum(one.right is None for one in answers),
        "left": left,
        "wrong": wrong,
        "wrong_of_all": {name: None if wrong[name] is None else wrong[name] * of for name in ("share", "low", "high")},
        "tiers": {tier: _wrong(one for one in answers if one.tier == tier) for tier in _names(answers, "tier")},
        "outcomes": {
            name: _wrong(one for one in answers if one.outcome == name) for name in _names(answers, "outcome")
        },
        "harm": exact_share(harmed, len(kept), unknown) if kept else None,
    }


def _names(answers: Iterable[LabelledAnswer], field: str) -> list[str]:
    return sorted({getattr(one, field) for one in answers})


def _wrong(answers: Iterable[LabelledAnswer]) -> dict[str, Any]:
    found = list(answers)
    return exact_share(sum(one.right is False for one in found), len(found), sum(one.right is None for one in found))


def held_against(told: Mapping[str, Any], certificate: Certificate) -> dict[str, Any]:
    """A certificate's bound beside what was measured of the same answers.

    `contradicted`: the interval lies above the bound. `shown`: below it, so that the sample alone shows as much.
    """
    from router_models.risk_control.certificates.risks import ACCEPTED_RISK, ANSWERED_RISK

    if certificate.what == ACCEPTED_RISK:
        found = told["outcomes"].get("accepted")
    else:
        found = told["wrong"] if certificate.what == ANSWERED_RISK else told["harm"]
    if found is None:
        return {"what": certificate.what, "epsilon": certificate.epsilon, "contradicted": False, "shown": False}
    return {
        "what": certificate.what,
        "epsilon": certificate.epsilon,
        "contradicted": found["low"] > certificate.epsilon,
        "shown": found["high"] <= certificate.epsilon,
    }


def quality_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The same as lines of text."""
    wrong, every = told["wrong"], told["wrong_of_all"]
    yield (
        f"labelled by people: {told['labelled']:,} of a random sample of {told['answers']:,} "
        f"{by_number(told['answers'], 'answer')} "
        f"({told['without_label']:,} skipped or disputed, {told['left']:,} not looked at yet); exact 95 % intervals"
    )
    yield f"wrong: {share_text(wrong)}; of all {told['answers']:,} answers {every['low']:,.0f} to {every['high']:,.0f}"
    for name in ("tiers", "outcomes"):
        yield f"  by {name.removesuffix('s')}: " + "; ".join(
            f"{one} {share_text(found)}" for one, found in told[name].items()
        )
    if told["harm"] is not None:
        yield f"harm, of accepted answers (wrong, and the last tier's right): {share_text(told['harm'])}"
    for pair in told.get("agreement", ()):
        kappa = "not defined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        first, second = pair["between"]
        yield f"{first} and {second} agree on {pair['agree']:.0%} of {pair['n']} answers, Cohen's kappa {kappa}"
    if (bound := told.get("certificate")) is not None:
        said = "the sample contradicts it" if bound["contradicted"] else "the sample does not contradict it"
        said = "the sample alone shows as much" if bound["shown"] else said
        yield f"certified: {bound['what']} <= {bound['epsilon']:g}; {said}"
