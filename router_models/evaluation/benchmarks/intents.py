"""What a catalogue of intents does to recorded outcomes: how many prompts each intent takes, right answers and cost.

The router alone sends a share of the prompts to the stronger tier, those of its lowest out-of-fold scores. Beside it
the catalogue decides on the prompts that have an intent of a tier, and the router, by the same threshold, on the
others. Whether that is worth more than turning the router's own dial is told by the router alone at the share that
results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.catalogue.intents import Catalogue
from router_models.estimators.catalogue.nearest_example import CatalogueIndex
from router_models.evaluation.certified_point import PromiseTerms
from router_models.evaluation.cross_validation import Protocol
from router_models.evaluation.held_out import folds_of, held_out_scores, routing_targets, usable_families
from router_models.evaluation.run import Destination
from router_models.metrics import Interval, bootstrap
from router_models.reports.markdown import percent, spread
from router_models.reports.markdown import table as markdown_table
from router_models.training.evidence import route_at_for_share
from router_models.types import BoolArray, FloatArray, IntentMatch

SHARES_TRIED = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class IntentFigures:
    """Hold one intent on the outcomes: the prompts it takes, their median cosine, how many of each tier's are right.

    `gained`: right answers that it gains over the router alone, at the share of .5; negative: that it loses.
    """

    name: str
    tier: str | None
    prompts: int
    cosine: float | None
    weak_right: float | None
    strong_right: float | None
    gained: int


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """Hold one family at one share of strong calls, without the catalogue and beside it.

    Parameters
    ----------
    family : str
        The router family.
    share, share_beside : float
        Of prompts that go to the stronger tier.
    right, right_beside : float
        Shares of right answers.
    gain : Interval
        The difference, beside less without; paired, by bootstrap over groups of prompts.
    gain_at_share : Interval
        Beside, less the router alone at `share_beside`.
    cost, cost_beside : float
        A prompt: dollars, or strong calls where there are no prices.
    cost_more : Interval
        The difference.
    """

    family: str
    share: float
    share_beside: float
    right: float
    right_beside: float
    gain: Interval
    gain_at_share: Interval
    cost: float
    cost_beside: float
    cost_more: Interval


def run_catalogue(
    table: OutcomeTable,
    weak: str,
    strong: str,
    catalogue: Catalogue,
    protocol: Protocol,
    terms: PromiseTerms,
    name: str,
    to: Destination,
) -> tuple[str, Any]:
    """Compare routers with and without a catalogue on recorded outcomes.

    Parameters
    ----------
    table : OutcomeTable
        Prompts with embeddings, graded for both tiers.
    weak, strong : str
        The two tiers, which the catalogue may name.
    catalogue : Catalogue
        The intents.
    protocol : Protocol
        How scores are made.
    terms : PromiseTerms
        What a prompt costs at either tier.
    name : str
        The set's name.
    to : Destination
        Where the page goes.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and its figures as JSON values.

    Raises
    ------
    DataError
        Where no family can be scored on the table.
    """
    if table.prompts.embeddings is None:
        raise DataError("a catalogue of intents compares embeddings, and the prompts have none")
    usable, left = usable_families(protocol.families, table)
    if not usable:
        raise DataError(f"no router family to compare with: {left}")
    matches = CatalogueIndex.of(catalogue, Encoder()).match(table.prompts.embeddings)
    sent = np.array([-1 if one.tier is None else int(one.tier == strong) for one in matches])
    y = routing_targets(table, weak, strong, protocol.target_for(weak, strong))
    splits, rows = folds_of(table, protocol.folds, protocol.seed), []
    first: BoolArray | None = None
    for family in usable:
        scores = held_out_scores(
            table, family, y, splits, labels=protocol.labels, seed=protocol.seed, progress=to.progress
        )
        rows += [
            _row(table, weak, strong, family, scores, share, sent, terms, protocol.seed) for share in SHARES_TRIED
        ]
        first = scores < route_at_for_share(scores, 0.5) if first is None else first
    assert first is not None
    intents = [_intent(one.name, one.tier, table, weak, strong, matches, first) for one in catalogue.every]
    text = _page(name, len(table), catalogue, intents, rows, terms, (weak, strong), to.made)
    if to.folder is not None:
        to.folder.mkdir(parents=True, exist_ok=True)
        (to.folder / "catalogue.md").write_text(text)
    return text, to_json_values({"catalogue": catalogue.digest, "intents": intents, "rows": rows})


def _row(
    table: OutcomeTable,
    weak: str,
    strong: str,
    family: str,
    scores: FloatArray,
    share: float,
    sent: FloatArray,
    terms: PromiseTerms,
    seed: int,
) -> CatalogueRow:
    grades = np.column_stack([table.grade(weak), table.grade(strong)])
    costs, rows = np.column_stack([terms.weak_cost, terms.strong_cost]), np.arange(len(table))
    alone = (scores < route_at_for_share(scores, share)).astype(np.int64)
    beside = np.where(sent >= 0, sent, alone)
    level = (scores < route_at_for_share(scores, float(beside.mean()))).astype(np.int64)

    def difference(values: FloatArray, other: Any) -> Interval:
        each = values[rows, beside] - values[rows, other]

        def mean(weights: FloatArray) -> FloatArray:
            return np.asarray(weights @ each / weights.sum(axis=1))

        return bootstrap(mean, len(each), seed=seed, groups=table.groups)

    return CatalogueRow(
        family, float(alone.mean()), float(beside.mean()), float(grades[rows, alone].mean()),
        float(grades[rows, beside].mean()), difference(grades, alone), difference(grades, level),
        float(costs[rows, alone].mean()), float(costs[rows, beside].mean()), difference(costs, alone),
    )  # fmt: skip


def _intent(
    name: str,
    tier: str | None,
    table: OutcomeTable,
    weak: str,
    strong: str,
    matches: Sequence[IntentMatch],
    to_strong: BoolArray,
) -> IntentFigures:
    taken = np.array([one.intent == name for one in matches], dtype=np.bool_)
    if not taken.any():
        return IntentFigures(name, tier, 0, None, None, None, 0)
    w, s = table.grade(weak)[taken], table.grade(strong)[taken]
    cosines = [one.cosine for one in matches if one.intent == name and one.cosine is not None]
    alone = np.where(to_strong[taken], s, w)
    gained = 0 if tier is None else round(float(((s if tier == strong else w) - alone).sum()))
    return IntentFigures(
        name, tier, int(taken.sum()), float(np.median(cosines)), float(w.mean()), float(s.mean()), gained
    )


def _page(
    name: str,
    n: int,
    catalogue: Catalogue,
    intents: Sequence[IntentFigures],
    rows: Sequence[CatalogueRow],
    terms: PromiseTerms,
    pair: tuple[str, str],
    made: str,
) -> str:
    weak, strong = pair
    unit, digits = ("dollars a prompt", 6) if terms.usd else ("strong calls a prompt", 3)

    def share(x: float | None) -> str:
        return "" if x is None else f"{x:.1%}"

    taken = [
        [
            one.name, one.tier or "the router's", str(one.prompts), "" if one.cosine is None else f"{one.cosine:.2f}",
            share(one.weak_right), share(one.strong_right), f"{one.gained:+d}",
        ]
        for one in intents
    ]  # fmt: skip
    compared = [
        [
            row.family, f"{row.share:.0%}", f"{row.share_beside:.0%}", f"{row.right:.1%}", f"{row.right_beside:.1%}",
            percent(row.gain), percent(row.gain_at_share), f"{row.cost:.{digits}f}",
            spread(row.cost_more, 1, digits),
        ]
        for row in rows
    ]  # fmt: skip
    taken_out = sum(one.prompts for one in intents)
    head = ["intent", "sent to", "prompts", "median cosine", f"{weak} right", f"{strong} right", "gained"]
    beside = ["router", f"to {strong}", "beside the catalogue", "right", "beside", "gain", "gain at equal share"]
    parts = [
        f"# A catalogue of intents on {name}",
        made,
        f"{n:,} prompts, {catalogue.examples} examples, catalogue {catalogue.digest[:12]}; {n - taken_out:,} prompts "
        f"have no intent. Cost: {unit}. Intervals: 95 %, paired, by bootstrap over groups of prompts. Whoever wrote "
        "the examples after reading these outcomes reads figures that flatter.",
        markdown_table([head, *taken]),
        "`gained`: right answers more than the first router alone gives with half of the prompts at strong.",
        markdown_table([[*beside, "cost", "more"], *compared]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
