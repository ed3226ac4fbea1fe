"""RouteLLM's benchmarks as a page: the paper's rows and ours, each with what it learned from."""

from __future__ import annotations

from collections.abc import Sequence

from router_models.errors import by_number
from router_models.evaluation.benchmarks.routellm import Benchmark
from router_models.evaluation.benchmarks.routellm_paper import PUBLISHED
from router_models.evaluation.figures import Evaluation, MethodFigures
from router_models.reports.markdown import spread
from router_models.reports.markdown import table as markdown_table

MT_BENCH_NOTE = (
    "MT-Bench holds 72 questions: one random router's APGR has a standard deviation of about .07 here, so nothing "
    "below should be read as a ranking."
)


def benchmark_section(one: Benchmark, found: Evaluation, few: Sequence[MethodFigures] = ()) -> str:
    """Return one benchmark's section: the paper's rows, ours, and ours from as few labels as the paper's."""
    rows = [["", "router", "learned from", "CPT(50), %", "CPT(80), %", "APGR", "APGR, unseen domains"]]
    rows += [
        ["paper", p.method, p.data, f"{p.cpt_50:.1f}", f"{p.cpt_80:.1f}", f"{p.apgr:.3f}", ""]
        for p in PUBLISHED[one.name]
    ]
    rows += [["ours", row.method, _learned(row), *_three(row), _away(row)] for row in (*found.rows, *few)]
    text = (
        f"## {one.name}\n\n{one.raw:,} prompts, {one.dropped} contaminated {by_number(one.dropped, 'one')} "
        "dropped; right: weak "
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
