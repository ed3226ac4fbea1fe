"""What a report says about rejected answers that are served while the last tier is full."""

from __future__ import annotations

from collections.abc import Mapping

from router_models.reports.markdown import table
from router_models.reports.rendering import render
from router_models.risk_control.certificates.certificate import Certificate


def overload_section(certificates: Mapping[str, Certificate]) -> str:
    """What may be served under its threshold while the last tier is full, and on what evidence; by tier."""
    rows = [["tier", "score from", "P(wrong) at most", "confidence", "shown by", "upper bound", "expires"]]
    for tier, c in certificates.items():
        at = "by slice" if c.threshold is None else f"{c.threshold:.4f}"
        shown = f"{c.errors} of {c.accepted_n}"
        end = f"{c.expires_at:%Y-%m-%d}"
        rows.append([tier, at, f"{c.epsilon:g}", f"{1 - c.level:.1%}", shown, f"{c.upper:.4f}", end])
    slices = [
        [name, str(p.trials), str(p.errors), f"≤ {p.bound:g}" if p.certified else "none: nothing is served here"]
        for c in certificates.values()
        for name, p in c.slices.items()
    ]
    return render(
        "overload.md.j2",
        rows=table(rows) if certificates else "",
        slices=table([["slice", "served", "wrong", "promise"], *slices]) if slices else "",
    )
