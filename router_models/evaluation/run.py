"""Run `serve-graph evaluate` on files: one set, a cascade, or the paper's benchmarks."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router_models.data.embeddings.encoder import Encoder
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.signals import TierKind
from router_models.evaluation.benchmarks.routellm import STRONG, WEAK, read_benchmarks
from router_models.evaluation.benchmarks.routellm_page import benchmark_section
from router_models.evaluation.benchmarks.routellm_paper import PAPERS_LABELS
from router_models.evaluation.cascade import cascade_page, compare_cascade
from router_models.evaluation.certified_point import PromiseTerms
from router_models.evaluation.cross_validation import Protocol, costs_of, cross_validate_routers
from router_models.evaluation.figures import Evaluation, MethodFigures
from router_models.evaluation.held_out import (
    HeldOutScores,
    usable_families,
    want_embeddings,
)
from router_models.evaluation.page import evaluation_page
from router_models.evaluation.plots import draw_cost, draw_evaluation_deferral
from router_models.pricing.tier_costs import TierCosts
from router_models.reports.coverage import foreseen_conditions, foreseen_section, foreseen_words
from router_models.types import Progress


@dataclass(frozen=True, slots=True)
class Destination:
    """Hold where an evaluation goes, and what its page says of how it was made.

    Parameters
    ----------
    made : str
        When, where and by which command: a line of the page.
    folder : Path, optional
        For the page, its figures and pictures (of `run_all` a .md file); None: nothing is written.
    progress : callable
        Receives a sentence about each step.
    """

    made: str
    folder: Path | None
    progress: Progress


def run_one(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    prices: tuple[TierCosts, TierCosts] | None,
    budget: tuple[float, float, float | None],
    name: str,
    to: Destination,
) -> tuple[str, Any]:
    """Evaluate routers on one set.

    Parameters
    ----------
    table : OutcomeTable
        Prompts graded for both tiers.
    weak, strong : str
        The two tiers.
    protocol : Protocol
        How scores are made.
    prices : tuple of TierCosts, optional
        Of weak and strong; None = costs are shares of strong calls.
    budget : tuple of float
        ε, δ, and the grade from which on an answer is right (None = grades are 0 or 1).
    name : str
        The set's name.
    to : Destination
        Where the page and its figures go.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and its figures as JSON values.

    Raises
    ------
    DataError
        For unknown families, a pair without a gap, or prices at which nothing can be saved.
    """
    epsilon, delta, acceptable = budget
    terms = costs_of(table, weak, strong, prices, epsilon=epsilon, delta=delta, acceptable=acceptable)
    covered = [foreseen_words(foreseen_conditions(table))]
    found, held = cross_validate_routers(
        table, weak, strong, protocol, terms, datetime.now(UTC), name=name, notes=covered, progress=to.progress
    )
    if to.folder is not None:
        _write(to.folder, found, held, table, to.made)
        to.progress(f"written to {to.folder}")
    return evaluation_page(found, made=to.made), to_json_values(found)


def run_cascade(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    epsilon: float,
    name: str,
    to: Destination,
    kind: TierKind = TierKind.VLLM,
) -> tuple[str, Any]:
    """Evaluate both tiers as a cascade: by logprobs alone, by the prompt alone, by all combined.

    Parameters
    ----------
    table : OutcomeTable
        Recorded outcomes of both tiers.
    weak, strong : str
        The two tiers.
    protocol : Protocol
        How scores are made; it names one router family.
    epsilon : float
        The share of wrong answers among the kept that "kept" allows, in (0, 1).
    name : str
        The set's name.
    to : Destination
        Where the page and its figures go.
    kind : TierKind
        What comes with the weak tier's answers when it serves.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and its figures as JSON values.

    Raises
    ------
    DataError
        Where the protocol does not name exactly one usable family, or confidences were not recorded.
    """
    import json

    usable, left = usable_families(protocol.families, table)
    if len(usable) != 1:
        raise DataError(f"--cascade takes one router family that this table feeds; {left or 'name one: --router F'}")
    found = compare_cascade(
        table, weak, strong, usable[0], name=name, folds=protocol.folds, epsilon=epsilon, seed=protocol.seed,
        kind=kind, progress=to.progress,
    )  # fmt: skip
    conditions = foreseen_section(foreseen_conditions(table.only(weak, strong)))
    text, figures = f"{cascade_page(found, to.made)}\n## Covered\n{conditions}\n", to_json_values(found)
    if to.folder is not None:
        to.folder.mkdir(parents=True, exist_ok=True)
        (to.folder / "cascade.md").write_text(text)
        (to.folder / "cascade.json").write_text(json.dumps(figures, indent=1))
    return text, figures


def run_benchmark(
    checkout: Path,
    protocol: Protocol,
    cache: Path,
    epsilon: float,
    delta: float,
    to: Destination,
) -> tuple[str, Any]:
    """Evaluate routers on RouteLLM's benchmarks; every row says what it was trained and tested on.

    Parameters
    ----------
    checkout : Path
        The root of a checkout of lm-sys/RouteLLM.
    protocol : Protocol
        How scores are made.
    cache : Path
        A folder for embeddings.
    epsilon, delta : float
        The certificate's risk budget and 1 - confidence, in (0, 1).
    to : Destination
        Where the page and its figures go.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and its figures as JSON values.

    Raises
    ------
    DataError
        Where the checkout holds no responses, or they cannot be read.
    """
    parts, figures = ["# RouteLLM's benchmarks, the paper's rows (arXiv 2406.18665 v3) and ours", to.made], {}
    protocol = replace(protocol, certify=False)
    for one in read_benchmarks(checkout):
        table = with_sentences(one.name, one.table, protocol, cache, to.progress)
        terms = costs_of(table, WEAK, STRONG, None, epsilon=epsilon, delta=delta)
        try:
            found, held = cross_validate_routers(
                table, WEAK, STRONG, protocol, terms, datetime.now(UTC), name=one.name, progress=to.progress
            )
        except DataError as error:  # a few dozen questions are too few for some families: the baselines still stand
            bare, why = replace(protocol, families=()), f"no router: {error}"
            found, held = cross_validate_routers(
                table, WEAK, STRONG, bare, terms, datetime.now(UTC), name=one.name, notes=[why], progress=to.progress
            )
        few = _few_labels(table, protocol, terms, one.name, found, to.progress)
        figures[one.name] = {"raw": one.raw, "dropped": one.dropped, **to_json_values(found)}
        figures[one.name]["few"] = to_json_values(few)
        parts.append(benchmark_section(one, found, few))
        if to.folder is not None:
            _write(to.folder / one.name, found, held, table, to.made)
    text = "\n\n".join(parts) + "\n"
    if to.folder is not None:
        (to.folder / "routellm.md").write_text(text)
    return text, figures


def _few_labels(
    table: OutcomeTable, protocol: Protocol, terms: PromiseTerms, name: str, found: Evaluation, progress: Progress
) -> tuple[MethodFigures, ...]:
    """Return the routers' figures from as few labels as the paper's; none where that, or less, was asked for or given.

    The paper's routers of the benchmark's own questions learned from some 1,500 of them.
    """
    families = [row.method for row in found.rows[3:]]
    learned = len(table) * (protocol.folds - 1) // protocol.folds
    if not families or min(learned, protocol.labels or learned) <= PAPERS_LABELS:
        return ()
    few = replace(protocol, families=families, labels=PAPERS_LABELS, domain="")
    again, _ = cross_validate_routers(table, WEAK, STRONG, few, terms, datetime.now(UTC), name=name, progress=progress)
    return again.rows[3:]


def with_sentences(
    name: str, table: OutcomeTable, protocol: Protocol, cache: Path, progress: Progress
) -> OutcomeTable:
    """Return the table with sentence embeddings where a family of the protocol reads them; `cache` stores them."""
    if not want_embeddings(protocol.families):
        return table
    progress(f"{name}: embedding {len(table)} prompts (kept in {cache})")
    return table.with_embeddings(Encoder(), cache, progress)


def machine() -> str:
    """Describe this machine in words."""
    return f"{os.cpu_count()}-core {platform.machine()}, {platform.system()}"


def _write(out: Path, found: Evaluation, held: list[HeldOutScores], table: OutcomeTable, made: str) -> None:
    import json

    out.mkdir(parents=True, exist_ok=True)
    w, s = table.grade(found.weak), table.grade(found.strong)
    title = f"{found.weak} → {found.strong} on {found.name}"
    draw_evaluation_deferral(out / "deferral.png", held, w, s, title)
    draw_cost(out / "cost.png", held, w, s, found.terms, title)
    (out / "evaluation.json").write_text(json.dumps(to_json_values(found), indent=1))
    (out / "evaluation.md").write_text(evaluation_page(found, made=made, pictures=("deferral.png", "cost.png")))
