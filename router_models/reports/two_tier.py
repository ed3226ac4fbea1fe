"""The page a reviewer signs: what the version promises, on what evidence, beside the baselines. Markdown + PNG.

Every number carries an interval and stands beside random, prompt length, always-cheap, always-frontier and the
oracle, on CERT prompts that nothing was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router_models.reports.plots import draw_acceptance, draw_deferral, draw_reliability
from router_models.reports.prefix import prefix_section
from router_models.reports.sections import (
    REPORT_DRAWS,
    binds_section,
    calibration_section,
    choice_section,
    mean_interval,
    overload_section,
    promise_section,
    slices_section,
    with_interval,
)
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified
from router_models.training.evidence import Evidence, Replay, replay_policy, route_at_for_share
from router_models.types import FloatArray
from router_models.versions.router_version import RouterVersion


def write_report(folder: Path, candidate: Candidate, certified: Certified, settings: Settings) -> dict[str, float]:
    """Write report.md and its pictures into `folder`; returns the numbers for the registry.

    For the promise `accepted`, which is between two tiers; see `ladder_report` for the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version, seen = certified.version, certified.evidence
    assert seen is not None
    cheap, frontier = settings.tiers
    tiers, seed = (cheap, frontier), settings.seed
    point = version.policy.points[tiers[0]]
    played = _spoken(seen, version, replay_policy(seen, point.route_at, _accept_at(certified, point.accept_at)))
    rows = np.random.default_rng(seed).integers(0, len(seen), (REPORT_DRAWS, len(seen)))
    lines = _policies(seen, played.usd, played.right, played.accepted, rows)
    draw_reliability(folder / "reliability.png", seen, tiers)
    draw_acceptance(folder / "acceptance.png", seen, point.accept_at, point.route_at)
    areas = draw_deferral(folder / "deferral.png", seen, played)
    saved = 1.0 - played.usd.mean() / seen.frontier_usd.mean()
    by_slice = slices_section(certified.slices, played.accepted, seen.cheap_right < 0.5, version.certificate)
    honest = calibration_section(certified.ladder, seed)
    text = _page(candidate, version, seen, tiers, lines, areas, by_slice, honest)
    (folder / "report.md").write_text(text)
    accepted = played.accepted
    return {
        "saving_vs_always_frontier": float(saved),
        "accuracy": float(played.right.mean()),
        "accuracy_always_frontier": float(seen.frontier_right.mean()),
        "accuracy_always_cheap": float(seen.cheap_right.mean()),
        "accepted_share": float(accepted.mean()),
        "accepted_risk": float(1.0 - seen.cheap_right[accepted].mean()) if accepted.any() else 0.0,
        "escalated_share_of_tried": float((played.tried & ~accepted).sum() / max(played.tried.sum(), 1)),
        "router_auc": candidate.routers[cheap][-1].auc,
        **{f"deferral_area_{name.replace(' ', '_')}": area for name, area in areas.items()},
    }


def _accept_at(certified: Certified, otherwise: float) -> FloatArray:
    """The acceptance threshold of every prompt, (n,): its slice's own where slices are certified."""
    version, n = certified.version, len(certified.ladder)
    if version.slicer is None or version.certificate is None:
        return np.full(n, otherwise)
    return np.array([version.certificate.threshold_for(name) for name in certified.slices[version.slicer]])


def _spoken(seen: Evidence, version: RouterVersion, played: Replay) -> Replay:
    """What the version does, with the last tier's answers that it abstains on not right."""
    last = version.policy.points.get(version.policy.top)
    below = -np.inf if last is None or last.abstain_below is None else last.abstain_below
    silent = ~played.accepted & (seen.p_frontier_ok < below)
    return replace(played, right=np.where(silent, 0.0, played.right))


def _policies(
    seen: Evidence, usd: FloatArray, right: FloatArray, accepted: NDArray[np.bool_], rows: NDArray[np.int64]
) -> list[str]:
    """The table of what one pays and gets: this version beside what needs no model."""
    share = float(accepted.mean())
    order = np.argsort(seen.lengths, kind="stable")
    shortest = np.zeros(len(seen), dtype=bool)
    shortest[order[: round(share * len(seen))]] = True
    oracle = seen.cheap_right >= 0.5
    rivals: dict[str, tuple[FloatArray, FloatArray]] = {
        "**this version**": (usd, right),
        "always cheap": (seen.cheap_usd, seen.cheap_right),
        "always frontier": (seen.frontier_usd, seen.frontier_right),
        "random, same cheap share": (
            share * seen.cheap_usd + (1 - share) * seen.frontier_usd,
            share * seen.cheap_right + (1 - share) * seen.frontier_right,
        ),
        "shortest prompts, same cheap share": (
            np.where(shortest, seen.cheap_usd, seen.frontier_usd),
            np.where(shortest, seen.cheap_right, seen.frontier_right),
        ),
        "oracle (knows the grades)": (
            np.where(oracle, seen.cheap_usd, seen.frontier_usd),
            np.where(oracle, seen.cheap_right, seen.frontier_right),
        ),
    }
    top = seen.frontier_usd.mean()
    lines = [
        "| policy | cost, % of always-frontier | right, % | right − always-frontier, points |",
        "|---|---|---|---|",
    ]
    for name, (paid, good) in rivals.items():
        cost, quality = mean_interval(100 * paid / top, rows), mean_interval(100 * good, rows)
        gap = mean_interval(100 * (good - seen.frontier_right), rows)
        lines.append(f"| {name} | {with_interval(cost)} | {with_interval(quality)} | {with_interval(gap)} |")
    return lines


def _page(
    candidate: Candidate,
    version: RouterVersion,
    seen: Evidence,
    tiers: tuple[str, str],
    lines: Sequence[str],
    areas: dict[str, float],
    by_slice: str,
    honest: str,
) -> str:
    cheap, frontier = tiers
    point, last = version.policy.points[cheap], version.policy.points.get(frontier)
    certificate = version.certificate
    below = last.abstain_below if last else None
    abstain = "never" if below is None else f"the last tier's answer is estimated below {below:.3f}"
    area = "\n".join(f"| {name} | {value:.3f} |" for name, value in areas.items())
    return f"""# Router version: {cheap} → {frontier}

## Promise
{promise_section(certificate)}

Selective risk: of the cheap answers this policy lets through, at most that share is wrong. It covers traffic like the
labelled sample, the decoding settings and the engines hashed below, and nothing else.

## Operating point
Try {cheap} when the router estimates ≥ {point.route_at:.4f}; accept its answer when the verifier estimates ≥
{point.accept_at:.4f}; otherwise {frontier} answers. Abstain when: {abstain}.

## Streams shown by their beginning
{prefix_section(version)}

## What one pays and gets
{len(seen)} certification prompts; intervals are 95 % bootstrap over prompts ({REPORT_DRAWS} draws). An abstention
counts as not right.

{chr(10).join(lines)}

## By slice
Kept: a cheap answer that this policy lets through.

{by_slice}

## Is the estimate honest?
{honest}

![reliability](reliability.png)

## Accuracy by confidence, with the threshold
![acceptance](acceptance.png)

## Deferral: quality by share answered by {frontier}
![deferral](deferral.png)

| ranking by | area under the curve |
|---|---|
{area}

## How the models were chosen (held-out folds of the training prompts)
{choice_section("router", candidate.routers)}

{choice_section("verifier", candidate.verifiers)}

## Spilled while the last tier is full
{overload_section(version.overload_certificates)}

## If a share is all that is wanted
Router score alone, no verifier, no certificate: the threshold that sends so much of traffic to {frontier}. It is a
share, not a promise.

| share to {frontier} | try {cheap} at ≥ | cost, % of always-frontier | right, % |
|---|---|---|---|
{_shares(seen)}

## What the certificate depends on
{binds_section(certificate)}
"""


def _shares(seen: Evidence) -> str:
    lines = []
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        at = route_at_for_share(seen.p_route_ok, share)
        played = replay_policy(seen, at, -np.inf)
        cost = 100 * played.usd.mean() / seen.frontier_usd.mean()
        lines.append(f"| {share:.0%} | {at:.4f} | {cost:.1f} | {100 * played.right.mean():.1f} |")
    return "\n".join(lines)
