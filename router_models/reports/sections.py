"""Parts that every report shares: what is promised, slices, how the models were chosen, what it all depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.errors import by_number
from router_models.metrics import (
    bootstrap,
    brier_weighted,
    log_loss,
    log_loss_weighted,
    smooth_calibration_error_weighted,
)
from router_models.reports.headline import headline
from router_models.reports.markdown import spread, table
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Compared, Promise
from router_models.risk_control.evidence import CascadeEvidence, Thresholds
from router_models.risk_control.sequence import upper_bound
from router_models.training.selection.model_selection import Scored
from router_models.types import BoolArray, FloatArray
from router_models.versions.router_version import RouterVersion

REPORT_DRAWS = 2000
MAX_REPORT_SLICES = 25
DROP = "quality drop against always-frontier"
Mean = tuple[float, float, float]


def mean_interval(values: FloatArray, rows: NDArray[np.int64]) -> Mean:
    """A mean and its 95 % bootstrap interval over the given resamples (draws, n)."""
    draws = values[rows].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def with_interval(value: Mean) -> str:
    """A cell of a table."""
    return f"{value[0]:.1f} ({value[1]:.1f} to {value[2]:.1f})"


def promise_section(certificate: Certificate | None, delta_together: float | None = None) -> str:
    """The promise in one line, every certified statement with the counts that show it, and how sure all are at once.

    `delta_together` counts what else the version promises: prefixes and overload points.
    """
    if certificate is None:
        return "**Nothing is certified.**"
    lead = "\n".join(f"{i}. {line}" for i, line in enumerate(headline(certificate), 1))
    rows = [["statement", "at most", "confidence", "shown by", "upper bound on these counts"]]
    whole = Promise(
        certificate.what,
        certificate.epsilon,
        certificate.level,
        certificate.accepted_n,
        certificate.errors,
        certificate.upper,
    )
    for p in (whole, *certificate.also):
        statement = f"{p.what}{certificate.where}"
        rows.append([statement, f"{p.bound:g}", f"{1 - p.level:.1%}", _shown_by(p), f"{p.upper:.4f}"])
    delta = certificate.delta_together if delta_together is None else delta_together
    at_once = f"\n\nEverything that this version promises holds at once with {1 - delta:.1%} confidence."
    beside = _beside(certificate.compared)
    at_once = at_once if delta > certificate.delta else ""
    streamed = ""
    if certificate.streamed is not None:
        streamed = (
            "\n\nThe labels of this promise were given one by one, on accepted answers, until it was proved. All "
            "other figures of this page grade the CERT prompts by the outcomes' own labels."
        )
    patterns = ""
    if certificate.patterns:
        lines = "\n".join(f"- {tested.words}" for tested in certificate.patterns)
        patterns = f"\n\nTested on the same labels, each at {certificate.level:.3g} of δ:\n\n{lines}"
    return f"{lead}\n\n{certificate.summary()}\n\n{table(rows)}{beside}{at_once}{streamed}{patterns}"


def _beside(found: Compared | None) -> str:
    """The counts that stand beside the promise, as a paragraph; '' where they were not kept."""
    if found is None or found.kept == 0:
        return ""
    ungraded = ""
    if found.ungraded:
        answers = by_number(
            found.ungraded, "last answer was not graded and counts", "last answers were not graded and count"
        )
        ungraded = f" {found.ungraded} {answers} as right."
    return (
        f"\n\nOf the {found.kept} {by_number(found.kept, 'answer')} kept below the last tier (of {found.n} "
        f"CERT prompts) {found.wrong} {by_number(found.wrong, 'is', 'are')} wrong ({found.wrong / found.kept:.1%}): "
        f"{found.harmed} where the last tier's is right (harm), {found.wrong - found.harmed} where it is wrong too. "
        f"{found.gained} {by_number(found.gained, 'is', 'are')} right where the last tier's is wrong "
        f"({found.gained / found.kept:.1%}).{ungraded}"
    )


def estimates_of(data: CascadeEvidence) -> list[tuple[str, FloatArray, FloatArray]]:
    """Every estimate of a version with what it is about: (name, estimate (n,), whether it came true (n,))."""
    grades = data.grades
    named = [
        (f"router: {tier} will be right", data.p_route[:, i], grades[:, i]) for i, tier in enumerate(data.tiers[:-1])
    ]
    return named + [
        (f"verifier: {tier} was right", data.p_ok[:, i], grades[:, i]) for i, tier in enumerate(data.tiers)
    ]


def calibration_section(data: CascadeEvidence, seed: int) -> str:
    """How far each estimate is from a probability, on CERT: Brier score, log-loss and smooth calibration error."""
    named = estimates_of(data)
    rows = [["estimate", "Brier score", "log-loss", "of the base rate alone", "smooth calibration error"]]
    for name, p, y in named:
        figures = [
            bootstrap(figure(p, y), len(y), draws=REPORT_DRAWS, seed=seed)
            for figure in (brier_weighted, log_loss_weighted, smooth_calibration_error_weighted)
        ]
        cells = [spread(figure, 1, 3) for figure in figures]
        rows.append([name, *cells[:2], f"{log_loss(np.full(len(y), y.mean()), y):.3f}", cells[2]])
    note = (
        f"95 % bootstrap over the {len(data)} certification prompts ({REPORT_DRAWS} draws). Smooth calibration error "
        "is above 0 for any finite sample, and its interval leans upwards: compare it between estimates, not with 0."
    )
    return f"{table(rows)}\n\n{note}"


def slices_section(
    slices: Mapping[str, Sequence[str]], kept: BoolArray, wrong: BoolArray, certificate: Certificate | None
) -> str:
    """Risk by slice at the deployed thresholds, each bound at δ/G; certified slices, where there are, first.

    `kept` and `wrong` (n,): whether the promise covers the prompt's answer, and whether that answer is wrong.
    """
    parts: list[str] = []
    if certificate is not None and certificate.slices:
        parts.append(_certified_slices(certificate))
    delta = 0.1 if certificate is None else certificate.level
    for slicer, names in slices.items():
        labels = np.array(names)
        found = sorted(set(names), key=lambda name: (-int((labels == name).sum()), name))
        if not 2 <= len(found) <= len(labels) // 2:
            continue
        level = delta / len(found)
        rows = [
            [slicer.replace("_", " "), "prompts", "kept", "wrong", "risk, %", f"upper bound, % (level {level:.3g})"]
        ]
        for name in found[:MAX_REPORT_SLICES]:
            here = kept & (labels == name)
            n, k = int(here.sum()), int((here & wrong).sum())
            risk = f"{100 * k / n:.1f}" if n else "–"
            cells = [
                name,
                str(int((labels == name).sum())),
                str(n),
                str(k),
                risk,
                f"{100 * upper_bound(k, n, level):.1f}",
            ]
            rows.append(cells)
        parts.append(table(rows))
    if not parts:
        return "The certification prompts fall into one slice only, whichever way they are cut."
    note = (
        "Bounds are one-sided Clopper-Pearson at δ/G for the G slices of a table: they hold together, but they are "
        "information. A promise for each slice by itself is what `certify --slices` makes."
    )
    return "\n\n".join([*parts, note])


def _certified_slices(certificate: Certificate) -> str:
    """The promise of every slice with the counts that show it, and what is done where there is none."""
    others = list(dict.fromkeys(p.what for promise in certificate.slices.values() for p in promise.also))
    rows = [["certified slice", "kept", "wrong", "upper bound", *others, "level δ/G", "promise"]]
    nothing = "none: always the last tier" if certificate.closes_slices else "none: nothing is accepted here"
    for name, p in certificate.slices.items():
        also = {other.what: f"{_shown_by(other)}, at most {other.upper:.3f}" for other in p.also}
        held = " and ".join(f"≤ {q.bound:g}" for q in (p, *p.also)) if p.certified else nothing
        untold = certificate.closes_slices and not p.certified
        counts = ["–"] * 3 if untold else [str(p.trials), str(p.errors), f"{p.upper:.3f}"]
        rows.append([name, *counts, *(also.get(what, "–") for what in others), f"{p.level:.3g}", held])
    return table(rows)


def _shown_by(promise: Promise) -> str:
    """The counts behind a statement, or the number of pairs where it is about differences."""
    paired = not promise.errors and promise.what == DROP
    return (
        f"{promise.trials} {by_number(promise.trials, 'pair')}" if paired else f"{promise.errors} of {promise.trials}"
    )


def choice_section(what: str, tried: Mapping[str, Sequence[Scored]]) -> str:
    """How the models of each tier were chosen; the column `unseen domains` holds whole domains out."""
    return "\n\n".join(_choice(f"{what} of {tier}", scored) for tier, scored in tried.items())


def _choice(what: str, tried: Sequence[Scored]) -> str:
    if not tried:
        return f"No {what}: every answer that it could be fitted on is right, none is abstained from."
    out_of_domain = what.startswith("router")
    rows = [[what, "AUC", "over the baseline", "95 % interval", *(["AUC, unseen domains"] if out_of_domain else [])]]
    for i, scored in enumerate(tried):
        advantage = "baseline" if i == 0 else f"{scored.advantage:+.3f}"
        span = "" if i == 0 else f"{scored.low:+.3f} to {scored.high:+.3f}"
        far = "no domains recorded" if scored.out_of_domain_auc is None else f"{scored.out_of_domain_auc:.3f}"
        rows.append([scored.family, f"{scored.auc:.3f}", advantage, span, *([far] if out_of_domain else [])])
    return table(rows)


def asked_section(version: RouterVersion) -> str:
    """What the version asks for before a verdict, by tier; empty where it asks for nothing."""
    asked = {tier: names for tier in version.stages if (names := version.asked_of(tier))}
    said = "; ".join(f"of an answer of {tier} it asks for {' and '.join(names)}" for tier, names in asked.items())
    return f"Before its verdict {said}. What these calls cost is part of every cost on this page." if asked else ""


def thresholds_section(thresholds: Thresholds, tiers: tuple[str, ...]) -> str:
    """The thresholds of every tier; what is left after the cheaper tiers goes to the last."""
    rows = [["tier", "try at ≥", "accept at ≥", "abstain below"]]
    for i, tier in enumerate(tiers[:-1]):
        route, accept = _cell(thresholds.route_at[i], "always"), _cell(thresholds.accept_at[i], "always")
        rows.append([tier, route, accept, _cell(thresholds.abstain_below[i], "never")])
    rows.append([tiers[-1], "what is left", "always", _cell(thresholds.abstain_below[-1], "never")])
    return table(rows)


def _cell(threshold: float, lowest: str) -> str:
    """A threshold in a table: `lowest` in words for -inf, `never` for +inf."""
    return f"{threshold:.4f}" if np.isfinite(threshold) else "never" if threshold > 0 else lowest


def binds_section(certificate: Certificate | None) -> str:
    """Everything the certificate depends on, by hash; any change voids it."""
    binds = {} if certificate is None else certificate.binds
    rows = [["what", "sha256"], *([name, f"`{digest[:16]}`"] for name, digest in sorted(binds.items()))]
    until = "" if certificate is None else f"\n\nIt expires at {certificate.expires_at:%Y-%m-%d %H:%M %Z}."
    return f"Checked when a version is loaded; a change of any of these voids it.\n\n{table(rows)}{until}"
