"""The page a reviewer signs for a ladder whose thresholds were certified together: P(wrong | answered)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from router_models.reports.markdown import table
from router_models.reports.sections import (
    REPORT_DRAWS,
    binds_section,
    calibration_section,
    choice_section,
    mean_interval,
    promise_section,
    slices_section,
    with_interval,
)
from router_models.risk_control.certificate import Certificate
from router_models.risk_control.joint_path import JointPath
from router_models.risk_control.ladder import Ladder, LadderReplay, Thresholds, replay_ladder
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified
from router_models.types import BoolArray, FloatArray


def write_ladder_report(
    folder: Path, candidate: Candidate, certified: Certified, settings: Settings
) -> dict[str, float]:
    """Write report.md into `folder`; returns the numbers for the registry."""
    folder.mkdir(parents=True, exist_ok=True)
    data, certificate = certified.ladder, certified.version.certificate
    assert data.right is not None
    assert certificate is not None
    thresholds = Thresholds.from_named(certificate.settings, data.tiers)
    played = replay_ladder(data, thresholds, _covered(data, certificate))
    right = _right(played, data.right)
    wrong = played.wrong(data.right)
    (folder / "report.md").write_text(f"""# Router version: {" → ".join(data.tiers)}

## Promise
{promise_section(certificate)}

System risk: of the answers given, whichever tier gave them, at most that share is wrong; silence is not an answer and
has its own bound. All statements hold together at the confidence named. They cover traffic like the labelled sample,
the decoding settings and the engines hashed below, and nothing else.{_in_slices(certified)}

## Thresholds
The cheapest tier whose router estimate reaches `try at` is tried. Its answer is accepted from `accept at` on,
abstained on below `abstain below` (early abstention: no dearer tier is asked), and otherwise {data.tiers[-1]} answers.

{_points(thresholds, data.tiers)}

## What one pays and gets
{len(data)} certification prompts; intervals are 95 % bootstrap over prompts ({REPORT_DRAWS} draws). An abstention
counts as not right.

{_policies(data, played, right, settings.seed)}

## The certified path
Configurations proposed on TUNE, riskiest first; tested on CERT from the anchor outwards until one fails. Deployed: the
one that is predicted to save most where it is certified.

{_paths(certified.paths, thresholds)}

## By slice
Kept: an answer that was given.

{slices_section(certified.slices, ~played.abstained, wrong, certificate)}

## Are the estimates honest?
{calibration_section(data, settings.seed)}

## How the models were chosen (held-out folds of the training prompts)
{choice_section("router", candidate.routers)}

{choice_section("verifier", candidate.verifiers)}

## What the certificate depends on
{binds_section(certificate)}
""")
    top = data.cost_usd[:, -1].mean()
    return {
        "saving_vs_always_frontier": float(1 - played.cost_usd.mean() / top),
        "accuracy": float(right.mean()),
        "accuracy_always_frontier": float(data.right[:, -1].mean()),
        "abstained_share": float(played.abstained.mean()),
        "answered_risk": float(wrong.sum() / max(int((~played.abstained).sum()), 1)),
        **{f"answered_by_{tier}": float((played.answered_by == i).mean()) for i, tier in enumerate(data.tiers)},
    }


def _covered(data: Ladder, certificate: Certificate) -> BoolArray | None:
    """Of which prompts something is promised, (n,); None: of all."""
    return None if data.slices is None else np.array([certificate.covers(name) for name in data.slices])


def _in_slices(certified: Certified) -> str:
    """What slices change, and why some have no promise; nothing where there are none."""
    certificate, slicer = certified.version.certificate, certified.version.slicer
    if certificate is None or slicer is None:
        return ""
    top = certified.ladder.tiers[-1]
    held = ", ".join(name for name in certificate.slices if certificate.covers(name))
    reasons = "".join(f"\n- {name}: {reason}" for name, reason in certified.refused.items())
    return (
        f"\n\nEvery statement holds in each certified slice by itself, with one set of thresholds for all of them. By "
        f"{slicer.replace('_', ' ')}: {held}.\nIn any other slice nothing is promised, and {top} answers, unjudged."
        + (f" Not certified:\n{reasons}" if reasons else "")
    )


def _paths(paths: Mapping[str, JointPath], deployed: Thresholds) -> str:
    """The tests of the whole; with slices, in which of them each configuration was certified or ended the sequence."""
    if set(paths) == {""}:
        return _path(paths[""], deployed)
    rows = [["configuration", "slices", "certified in (p)", "ended in (p)", ""]]
    # A slice's sequence ends at the configuration after the last that was rejected, or at its anchor.
    ends = {name: path.anchor - int(path.rejected.sum()) for name, path in paths.items()}
    for j, c in enumerate(next(iter(paths.values())).configurations):
        held = [f"{name} ({path.p_values[j]:.2g})" for name, path in paths.items() if path.rejected[j]]
        ended = [f"{name} ({path.p_values[j]:.2g})" for name, path in paths.items() if ends[name] == j]
        mark = "**deployed**" if c.thresholds == deployed else ""
        rows.append([str(j + 1), str(len(held)), ", ".join(held) or "–", ", ".join(ended) or "–", mark])
    return table(rows)


def _points(thresholds: Thresholds, tiers: tuple[str, ...]) -> str:
    rows = [["tier", "try at ≥", "accept at ≥", "abstain below"]]
    for i, tier in enumerate(tiers[:-1]):
        route, accept = _cell(thresholds.route_at[i], "always"), _cell(thresholds.accept_at[i], "always")
        rows.append([tier, route, accept, _cell(thresholds.abstain_below[i], "never")])
    rows.append([tiers[-1], "what is left", "always", _cell(thresholds.abstain_below[-1], "never")])
    return table(rows)


def _cell(threshold: float, lowest: str) -> str:
    """A threshold in a table: `lowest` in words for -inf, `never` for +inf."""
    return f"{threshold:.4f}" if np.isfinite(threshold) else "never" if threshold > 0 else lowest


def _policies(data: Ladder, played: LadderReplay, right: FloatArray, seed: int) -> str:
    """What one pays and gets, beside each tier alone, a random mixture with the same shares, and the oracle."""
    assert data.right is not None
    graded = data.right.astype(np.float64)
    cheapest_right = np.where(data.right.any(axis=1), data.right.argmax(axis=1), len(data.tiers) - 1)
    rows = np.arange(len(data))
    # A mixture by chance: each tier answers as large a share as it does here.
    shares = np.bincount(np.maximum(played.answered_by, 0)[~played.abstained], minlength=len(data.tiers))
    shares = shares / max(shares.sum(), 1)
    rivals: dict[str, tuple[FloatArray, FloatArray]] = {"**this version**": (played.cost_usd, right)}
    rivals |= {f"always {tier}": (data.cost_usd[:, i], graded[:, i]) for i, tier in enumerate(data.tiers)}
    rivals["random, same shares"] = (data.cost_usd @ shares, graded @ shares)
    rivals["oracle (knows the grades)"] = (data.cost_usd[rows, cheapest_right], graded[rows, cheapest_right])
    draws = np.random.default_rng(seed).integers(0, len(data), (REPORT_DRAWS, len(data)))
    top, best = data.cost_usd[:, -1].mean(), graded[:, -1]
    lines = [["policy", "cost, % of the last tier alone", "right, %", "right − last tier alone, points"]]
    for name, (paid, good) in rivals.items():
        figures = (100 * paid / top, 100 * good, 100 * (good - best))
        lines.append([name, *(with_interval(mean_interval(values, draws)) for values in figures)])
    return table(lines)


def _path(path: JointPath, deployed: Thresholds) -> str:
    rows = [["predicted risk, %", "predicted $ per 1,000", "answered", "wrong", "abstained", "p", "certified"]]
    for i, c in enumerate(path.configurations):
        notes = ["yes" if path.rejected[i] else "no"]
        notes += ["anchor"] if i == path.anchor else []
        notes += ["**deployed**"] if c.thresholds == deployed else []
        counts = [str(int(column[i])) for column in (path.answered, path.wrong, path.abstained)]
        rows.append(
            [f"{100 * c.risk:.1f}", f"{1000 * c.cost_usd:.4g}", *counts, f"{path.p_values[i]:.2g}", ", ".join(notes)]
        )
    return table(rows)


def _right(played: LadderReplay, right: BoolArray) -> FloatArray:
    return np.asarray((~played.abstained & ~played.wrong(right)).astype(np.float64))
