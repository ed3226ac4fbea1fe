"""A certified version as one sealed folder with its report, and its entry in the registry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from router_models.reports.coverage import counted_words
from router_models.reports.headline import headline
from router_models.reports.html import html_page
from router_models.reports.report import write_report
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified
from router_models.training.labelling.preferences import learned_words
from router_models.versions.registry import RegisteredVersion, find_version, register
from router_models.versions.review import TAG, review_state, review_tags
from router_models.versions.router_version import RouterVersion
from router_models.versions.workspace import Workspace


def publish(
    candidate: Candidate,
    certified: Certified,
    settings: Settings,
    work: Workspace,
    *,
    alias: str | None = None,
    approved_by: str | None = None,
) -> RegisteredVersion:
    """Seal the version with its report, and register it with its numbers: proposed, until somebody approves it.

    Parameters
    ----------
    candidate, certified, settings : Candidate
        What was fitted, what was proved of it, and under which settings.
    work : Workspace
        Where it is sealed and registered.
    alias : str, optional
        An alias to point at the new version; None: none. It stays where it is if that is on an approved version: a
        version that nobody has approved takes no traffic away.
    approved_by : str, optional
        Who approves it from the start; None: nobody.
    """
    digest = hashlib.sha256(json.dumps([candidate.dataset_hash, str(settings)]).encode()).hexdigest()[:12]
    work.progress("writing the report and registering")
    version, report = certified.version, work.candidates / f".report-{digest}"
    numbers = write_report(report, candidate, certified, settings)
    made = version.certificate
    sealed = work.version_folder(digest, None if made is None else made.made_at)
    version.save(sealed, extra=report)
    review = {TAG: "proposed"}
    if approved_by is not None and made is not None:
        review = review_tags("approved", approved_by, made.made_at, "the first version, of the shipped outcomes")
    elif alias is not None and _is_approved(work, alias):
        alias = None
    return register(
        work.registry_uri,
        work.model,
        sealed,
        params={
            "dataset_sha256": candidate.dataset_hash,
            "tiers": ",".join(settings.tiers),
            "promise": settings.promised,
            "router": _family(version, settings.tiers[0], "router"),
            "verifier": _family(version, settings.tiers[0], "verifier"),
            "epsilon": str(settings.epsilon),
            "delta": str(settings.delta),
            "look": str(settings.look_index),
            "seed": str(settings.seed),
            "prices": json.dumps({k: {n: str(v) for n, v in asdict(p).items()} for k, p in settings.prices.items()}),
        },
        metrics=numbers,
        tags={
            "dataset_sha256": candidate.dataset_hash,
            "certificate": made.summary() if made else "none",
            "coverage": f"{made.coverage.summary()}. {counted_words(made.coverage)}" if made else "none",
            **({f"headline.{i}": line for i, line in enumerate(headline(made), 1)} if made else {}),
            **{f"spill.{tier}": proof.summary() for tier, proof in version.overload_certificates.items()},
            "label_source": made.label_source if made else "none",
            **({"learned_from": learned} if (learned := learned_words(version)) else {}),
            **review,
            **{f"prefix.{tier}": proof.summary() for tier, proof in version.prefix_certificates.items()},
        },
        alias=alias,
        artifacts_folder=work.artifacts,
        dataset=(candidate.dataset_hash, {"cert_prompts": len(certified.evidence), "tiers": list(settings.tiers)}),
        pages={"report.html": html_page(sealed / "report.md")},
    )


def _is_approved(work: Workspace, alias: str) -> bool:
    """Whether an alias points at an approved version."""
    found = find_version(work.registry_uri, work.model, alias)
    return found is not None and review_state(found).approved


def _family(version: RouterVersion, tier: str, what: str) -> str:
    """The registry name of one of a version's models."""
    part = getattr(version.stages[tier], what)
    return "none" if part is None else str(part.family)
