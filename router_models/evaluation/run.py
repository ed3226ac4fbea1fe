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
from router_models.evaluation.benchmarks.routellm import STRONG, WEAK, Benchmark, read_benchmarks
from router_models.evaluation.benchmarks.routellm_paper import PUBLISHED
from router_models.evaluation.cascade import cascade_page, compare_cascade
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
from router_models.reports.markdown import spread
from router_models.reports.markdown import table as markdown_table
from router_models.types import Progress

MT_BENCH_NOTE = (
    "MT-Bench holds 72 questions: one random router's APGR has a standard deviation of about .07 here, so nothing "
    "below should be read as a ranking."
)


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
        figures[one.name] = {"raw": one.raw, "dropped": one.dropped, **to_json_values(found)}
        parts.append(_benchmark_section(one, found))
        if to.folder is not None:
            _write(to.folder / one.name, found, held, table, to.made)
    text = "\n\n".join(parts) + "\n"
    if to.folder is not None:
        (to.folder / "routellm.md").write_text(text)
    return text, figures


def with_sentences(
    name: str, table: OutcomeTable, protocol: Protocol, cache: Path, progress: Progress
) -> OutcomeTable:
    """Return the table with sentence embeddings where a family of the protocol reads them; `cache` stores them."""
    if not want_embeddings(protocol.families):
        return table
    progress(f"{name}: embedding {len(table)} prompts (kept in {cache})")
    return table.with_embeddings(Encoder(), cache)


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


def _benchmark_section(one: Benchmark, found: Evaluation) -> str:
    rows = [["", "router", "learned from", "CPT(50), %", "CPT(80), %", "APGR", "APGR, unseen domains"]]
    rows += [
        ["paper", p.method, p.data, f"{p.cpt_50:.1f}", f"{p.cpt_80:.1f}", f"{p.apgr:.3f}", ""]
        for p in PUBLISHED[one.name]
    ]
    rows += [["ours", row.method, _learned(row), *_three(row), _away(row)] for row in found.rows]
    text = (
        f"## {one.name}\n\n{one.raw:,} prompts, {one.dropped} contaminated ones dropped; right: weak "
        f"{found.weak_quality:.4f}, strong {found.strong_quality:.4f}. The paper's figures are on the clean benchmark "
        "by ten deciles and np.interp, of routers that learned from other prompts; ours by the exact curve and its "
        "first crossing, on prompts left out while learning."
    )
    if one.name == "mt_bench":
        text += f" {MT_BENCH_NOTE}"
    deciles = ", ".join(
        f"{row.method} {' / '.join(f'{100 * row.deciles_cpt[x][1]:.1f}' for x in (0.5, 0.8))} / {row.deciles_apgr:.3f}"
        for row in found.rows
        if row.method != "random"
    )
    notes = "".join(f"\n- {note}" for note in found.notes)
    return (
        f"{text}\n\n{markdown_table(rows)}\n\nBy the paper's own definitions (deciles, np.interp): {deciles}.{notes}"
    )


def _learned(row: MethodFigures) -> str:
    if row.method in ("random", "length", "oracle"):
        return row.split
    return f"other folds of this benchmark; {row.split}"


def _three(row: MethodFigures) -> list[str]:
    return [spread(row.cpt_50, 100, 1), spread(row.cpt_80, 100, 1), spread(row.apgr, 1, 3)]


def _away(row: MethodFigures) -> str:
    return "" if row.away is None else spread(row.away, 1, 3)
