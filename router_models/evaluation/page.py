"""Render an evaluation as Markdown: tables of figures, certified points and slices, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

from router_models.evaluation.certified_point import CertifiedPoint
from router_models.evaluation.figures import Evaluation, MethodFigures
from router_models.metrics import Interval
from router_models.reports.markdown import spread, table

MAX_PAGE_SLICES = 25
DIFFER = 0.005
"""First crossing and np.interp are both shown where they lie further apart than this."""


def evaluation_page(found: Evaluation, *, made: str = "", pictures: Sequence[str] = ()) -> str:
    """Render the whole page.

    Parameters
    ----------
    found : Evaluation
        The figures.
    made : str
        When, where and by which command the page was made.
    pictures : sequence of str
        File names of pictures to show.

    Returns
    -------
    str
        Markdown.
    """
    parts = [
        f"# {found.weak} → {found.strong} on {found.name}",
        made,
        f"{found.n:,} prompts; right: {found.weak} {found.weak_quality:.1%}, {found.strong} "
        f"{found.strong_quality:.1%}. Intervals are 95 %, paired bootstrap over prompts (2,000 draws).",
        *(f"- {note}" for note in found.notes),
        "## Routing figures",
        figures_table(found),
        _reading(found),
        "## At the certified point",
        certified_table(found),
        "## Slices",
        _slices(found),
        *(f"![{name}]({name})" for name in pictures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures_table(found: Evaluation) -> str:
    """Render PGR, APGR, CPT and AIQ of every method, with where its scores come from."""
    away = any(row.away is not None for row in found.rows)
    head = ["router", "scores from", "APGR", "over length", "CPT(50), %", "CPT(80), %", "PGR at half, %", "AIQ"]
    rows = [[*head, *([f"APGR, unseen {found.domain}", "there, over length"] if away else [])]]
    for row in found.rows:
        cells = [
            row.method,
            row.split,
            spread(row.apgr, 1, 3),
            "" if row.method == "length" else spread(row.over_length, 1, 3),
            spread(row.cpt_50, 100, 1),
            spread(row.cpt_80, 100, 1),
            spread(row.pgr_half, 100, 0),
            spread(row.aiq, 1, 3),
        ]
        if away:
            cells += [_maybe(row.away), _maybe(row.out_of_domain_over_length)]
        rows.append(cells)
    return table(rows)


def certified_table(found: Evaluation) -> str:
    """Render what each router may do under a certificate, or why nothing can be certified."""
    rows = [["router", "to strong, %", "cost, % of always-strong", "right, %", "PGR, %", "promise"]]
    rows += [[row.method, *_certified(row.certified)] for row in found.rows if row.certified is not None]
    text = (
        f"P(wrong | sent to {found.weak}) ≤ {found.terms.epsilon:g} with {1 - found.terms.delta:.0%} confidence: "
        "anchored Learn-then-Test on 60 % of the prompts, thresholds and calibration from the other 40 %. Prompts "
        "under conditions that a certificate would not cover are no evidence, and go to strong."
    )
    return f"{text}\n\n{table(rows)}"


def _reading(found: Evaluation) -> str:
    unit = "dollars" if found.terms.usd else "strong calls (no prices given: weak costs 0, strong 1)"
    lines = [
        "- CPT(x): the share of strong calls at which x % of the gap is first recovered, on the exact curve; tied "
        f"scores are averaged. AIQ: area under the concave hull of quality over cost ÷ greatest cost, in {unit}.",
        "- Random is the expectation over all random orders. The oracle's APGR is above 1 where the weak model "
        "answers what the strong one misses.",
    ]
    if odd := [text for row in found.rows for text in _non_monotone(row)]:
        lines.append(
            "- Not monotone: on RouteLLM's curve of ten deciles, CPT by first crossing and by its np.interp differ "
            f"for {'; '.join(odd)}."
        )
    deciles = ", ".join(f"{row.method} {row.deciles_apgr:.3f}" for row in found.rows if row.method != "random")
    lines.append(f"- APGR on RouteLLM's deciles instead: {deciles}.")
    return "\n".join(lines)


def _non_monotone(row: MethodFigures) -> list[str]:
    return [
        f"{row.method} CPT({100 * x:.0f}) {100 * first:.1f} and {100 * interpolated:.1f} %"
        for x, (first, interpolated) in row.deciles_cpt.items()
        if not abs(first - interpolated) <= DIFFER
    ]


def _certified(point: CertifiedPoint) -> list[str]:
    if point.threshold is None:
        return ["100.0", "100.0", f"{100 * point.quality:.1f}", "100", f"none: {point.why}"]
    return [
        f"{100 * point.strong_share:.1f}",
        f"{100 * point.cost / point.cost_of_strong:.1f}",
        f"{100 * point.quality:.1f}",
        f"{100 * point.pgr:.0f}",
        point.why,
    ]


def _slices(found: Evaluation) -> str:
    """Render the last method's slices (the evaluated router's), largest first."""
    method, slices = list(found.slices.items())[-1]
    if not slices:
        return "No slices: the prompts carry no metadata."
    largest = sorted(slices, key=lambda s: -s.n)[:MAX_PAGE_SLICES]
    rows = [["slice", "n", "weak right, %", "strong right, %", "to strong, %", "PGR, %", "APGR"]]
    rows += [
        [
            f"{s.column}: {s.value or '(none)'}",
            f"{s.n}",
            f"{100 * s.weak:.0f}",
            f"{100 * s.strong:.0f}",
            f"{100 * s.strong_share:.0f}",
            "no gap" if s.pgr is None else f"{100 * s.pgr:.0f}",
            "no gap" if s.apgr is None else f"{s.apgr:.2f}",
        ]
        for s in largest
    ]
    left = f" The {len(largest)} largest of {len(slices)}." if len(largest) < len(slices) else ""
    return f"{method}, at the one threshold that sends half of all prompts to {found.strong}.{left}\n\n{table(rows)}"


def _maybe(interval: Interval | None) -> str:
    return "" if interval is None else spread(interval, 1, 3)
