"""The page a reviewer signs: what the version promises, on what evidence, beside the baselines. Markdown + PNG.

One page for any number of tiers and either promise. Every number carries an interval and stands beside random, prompt
length, each tier alone and the oracle, on CERT prompts that nothing was fitted on.
"""

from __future__ import annotations

from pathlib import Path

from router_models.reports.coverage import coverage_section
from router_models.reports.markdown import table
from router_models.reports.overload import overload_section
from router_models.reports.paths import path_section
from router_models.reports.plots import (
    DEFERRAL_FILE,
    draw_acceptance,
    draw_deferral,
    draw_reliability,
    write_deferral,
)
from router_models.reports.policies import policies_section, shares_section
from router_models.reports.prefix import prefix_section
from router_models.reports.rendering import render
from router_models.reports.sections import (
    REPORT_DRAWS,
    asked_section,
    binds_section,
    calibration_section,
    choice_section,
    promise_section,
    slices_section,
    thresholds_section,
)
from router_models.risk_control.certificates.promise import Compared
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.ladder.replay import Replay
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified
from router_models.training.evidence import replay_version, thresholds_of
from router_models.training.labelling.preferences import learned_words


def write_report(folder: Path, candidate: Candidate, certified: Certified, settings: Settings) -> dict[str, float]:
    """Write report.md and its pictures into `folder`.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    candidate : Candidate
        What the models were chosen from.
    certified : Certified
        The version and the CERT prompts that it was proved on.
    settings : Settings
        Those it was certified with.

    Returns
    -------
    dict[str, float]
        The numbers for the registry, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version, seen, seed = certified.version, certified.evidence, settings.seed
    certificate, right = version.certificate, certified.evidence.grades >= 0.5
    replayed, thresholds = replay_version(version, seen), thresholds_of(version.policy, seen.tiers)
    draw_reliability(folder / "reliability.png", seen)
    draw_acceptance(folder / "acceptance.png", seen, thresholds)
    areas = draw_deferral(folder / "deferral.png", seen, replayed)
    write_deferral(folder / DEFERRAL_FILE, seen, replayed)
    kept = ~replayed.abstained if settings.promised == "answered" else replayed.accepted
    kept = kept & seen.rows_counted
    wrong = replayed.harmed(right) if settings.harm else replayed.wrong(right)
    compared = None if certificate is None else certificate.compared
    slices = {} if certificate is None else certificate.slices
    page = render(
        "report.md.j2",
        tiers=seen.tiers,
        top=seen.tiers[-1],
        risk=settings.promised,
        joint=settings.joint or settings.pre_routes,
        pre_routes=settings.pre_routes,
        promise=promise_section(certificate, version.delta_together),
        slicer=(version.slicer or "").replace("_", " "),
        covered=[name for name, promise in slices.items() if promise.certified],
        refused=certified.refused,
        thresholds=thresholds_section(thresholds, seen.tiers),
        prefixes=prefix_section(version),
        n=len(seen),
        draws=REPORT_DRAWS,
        policies=policies_section(seen, replayed, seed, compared),
        path=path_section(certified.paths, thresholds),
        coverage="" if certificate is None else coverage_section(certificate.coverage),
        slices=slices_section(certified.slices, kept, wrong, certificate),
        calibration=calibration_section(seen, seed),
        areas=table(
            [["ranking by", "area under the curve"], *([name, f"{area:.3f}"] for name, area in areas.items())]
        ),
        learned=learned_words(version),
        routers=choice_section("router", candidate.routers),
        verifiers=choice_section("verifier", candidate.verifiers),
        asked=asked_section(version),
        overload=overload_section(version.overload_certificates),
        shares=shares_section(seen) if len(seen.tiers) == 2 else "",
        binds=binds_section(certificate),
    )
    (folder / "report.md").write_text(page + "\n")
    return {
        **_numbers(seen, replayed),
        **_compared_numbers(compared),
        "router_auc": _chosen_auc(candidate, seen.tiers[0]),
        **{f"deferral_area_{name}": area for name, area in areas.items()},
    }


def _numbers(seen: CascadeEvidence, replayed: Replay) -> dict[str, float]:
    """What the version costs and yields on CERT."""
    grades, top = seen.grades, len(seen.tiers) - 1
    right, wrong = replayed.right(grades >= 0.5), replayed.wrong(grades >= 0.5)
    return {
        "saving_vs_always_frontier": float(1 - replayed.cost_usd.mean() / seen.cost_usd[:, top].mean()),
        "accuracy": float(right.mean()),
        "accuracy_always_frontier": float(grades[:, top].mean()),
        "accuracy_always_cheap": float(grades[:, 0].mean()),
        "accepted_share": float(replayed.accepted.mean()),
        "accepted_risk": float(wrong[replayed.accepted].mean()) if replayed.accepted.any() else 0.0,
        "escalated_share_of_tried": float(replayed.escalated.sum() / max(int((replayed.tried < top).sum()), 1)),
        "abstained_share": float(replayed.abstained.mean()),
        "answered_risk": float(wrong.sum() / max(int((~replayed.abstained).sum()), 1)),
        **{f"answered_by_{tier}": float((replayed.answered_by == i).mean()) for i, tier in enumerate(seen.tiers)},
    }


def _compared_numbers(found: Compared | None) -> dict[str, float]:
    """The version beside always asking the last tier, with the ends of the 95 % intervals."""
    if found is None:
        return {}
    named: dict[str, float] = {"harm": found.harmed / found.kept if found.kept else 0.0}
    for name, span in (("right_difference", found.right_difference), ("net_saving", found.cost_saved)):
        named |= dict(zip((name, f"{name}_low", f"{name}_high"), span, strict=True))
    return named


def _chosen_auc(candidate: Candidate, tier: str) -> float:
    """The held-out AUC of the router family that the version uses for a tier."""
    router, tried = candidate.version.stages[tier].router, candidate.routers[tier]
    return next((scored for scored in tried if router and scored.family == router.family), tried[-1]).auc
