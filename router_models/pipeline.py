"""Outcomes → candidate → certified version → registry: the offline twin of `cascade.answer`, on one screen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from router_models.data.features import Encoder
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.errors import NotCertifiedError
from router_models.reports.ladder import write_ladder_report
from router_models.reports.two_tier import write_report
from router_models.risk_control.sequence import spent_delta
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified, certify_candidate, check_candidate
from router_models.training.certify_overload import with_overload
from router_models.training.certify_prefix import check_prefix, with_prefix
from router_models.training.fit import fit_candidate
from router_models.training.label_budget import labels_read
from router_models.types import Progress
from router_models.versions.registry import RegisteredVersion, record_look, register
from router_models.versions.router_version import RouterVersion


def run_pipeline(
    outcomes: Path,
    settings: Settings,
    state_folder: Path,
    registry_uri: str,
    model: str,
    now: datetime,
    *,
    alias: str | None = None,
    prefix: Sequence[int] = (),
    progress: Progress = lambda _: None,
) -> RegisteredVersion:
    """Train, certify and register one version from an outcomes file; with a prefix point where one is certified.

    Parameters
    ----------
    outcomes : Path
        The table, see `read_outcomes`.
    settings : Settings
        What the version is made for, and what is to be promised.
    state_folder : Path
        Where embeddings, candidates and artifacts are kept.
    registry_uri : str
        MLflow's tracking URI.
    model : str
        The registered model's name.
    now : datetime
        When the certificate is made; with time zone.
    alias : str, optional
        Points at the new version, for example `stable`.
    prefix : sequence of int
        Numbers of tokens to try for a prefix point; none by default.
    progress : callable
        Gets one line a step.

    Returns
    -------
    RegisteredVersion
        Its number, aliases and tags.

    Raises
    ------
    DataError
        For unusable outcomes.
    NotCertifiedError
        With the reason, where nothing can be promised.
    """
    encoder, cache = Encoder(), state_folder / "embeddings"
    table = read_outcomes(outcomes, settings.tiers)
    if prefix:
        check_prefix(table, settings, prefix)
    progress(f"embedding {len(table)} prompts")
    table = table.with_embeddings(encoder, cache)
    progress("choosing and fitting router and verifier")
    candidate = fit_candidate(table, settings, encoder, cache)
    progress("certifying")
    certified, settings = certify_next(
        candidate, table, settings, now, cache, registry_uri, state_folder / "artifacts", progress
    )
    if prefix:
        certified, _ = certify_prefix_next(
            certified, table, settings, prefix, now, cache, registry_uri, state_folder / "artifacts", progress
        )
    progress("writing the report and registering")
    return publish(
        candidate,
        certified,
        settings,
        state_folder / "candidates",
        registry_uri,
        model,
        alias=alias,
        artifacts_folder=state_folder / "artifacts",
    )


def certify_next(
    candidate: Candidate,
    table: OutcomeTable,
    settings: Settings,
    now: datetime,
    cache: Path,
    registry_uri: str,
    artifacts_folder: Path,
    progress: Progress = lambda _: None,
) -> tuple[Certified, Settings]:
    """Certify with this look's share of δ: the registry counts every look at any of these labels, failed ones too.

    All looks together keep the promise with confidence 1 - δ, whether or not rows were added between them. Returns the
    settings with their round. Raises as `certify_candidate` does; what can be refused unseen is no look.
    """
    check_candidate(candidate, settings)
    labels = labels_read(table, settings.tiers, settings.seed)
    what = {"epsilon": str(settings.epsilon), "delta": str(settings.delta), "seed": str(settings.seed)}
    look = record_look(registry_uri, table.content_hash, labels, what, artifacts_folder)
    settings = replace(settings, look_index=look)
    spent = sum(spent_delta(settings.delta, i) for i in range(1, settings.look_index + 1))
    progress(
        f"look {settings.look_index} at these labels: δ {settings.level:.3g} for this one, {spent:.3g} spent of "
        f"{settings.delta:g}; fresh labels begin anew"
    )
    return certify_candidate(candidate, table, settings, now, cache), settings


def certify_prefix_next(
    certified: Certified,
    table: OutcomeTable,
    settings: Settings,
    lengths: Sequence[int],
    now: datetime,
    cache: Path,
    registry_uri: str,
    artifacts_folder: Path,
    progress: Progress = lambda _: None,
) -> tuple[Certified, str | None]:
    """A certified version with a prefix point; or, where none certifies, as it was, and why.

    Looks are counted as `certify_next` counts them, and apart from its own: the prefix promise has a δ of its own.
    """
    what = {"epsilon": str(settings.epsilon), "delta": str(settings.delta), "prefix": ",".join(map(str, lengths))}
    labels = {f"prefix {label}" for label in labels_read(table, settings.tiers, settings.seed)}
    look = record_look(registry_uri, f"{table.content_hash}.prefix", labels, what, artifacts_folder)
    settings = replace(settings, look_index=look)
    progress(f"certifying a prefix: look {look} at these labels for one, δ {settings.level:.3g} for it")
    try:
        return with_prefix(certified, table, settings, lengths, now, cache), None
    except NotCertifiedError as error:
        progress(f"no prefix verdict: {error.reason}")
        return certified, error.reason


def certify_spill_next(
    certified: Certified,
    table: OutcomeTable,
    settings: Settings,
    epsilon: float,
    delta: float,
    now: datetime,
    cache: Path,
    progress: Progress = lambda _: None,
) -> tuple[Certified, str | None]:
    """A certified version with a spill point; or, where none certifies, as it was, and why.

    `settings` are what `certify_next` gave back: it is the same look at the labels. The last certificate to be added:
    it is bound to the version as it then is.
    """
    progress(
        f"certifying a spill: P(wrong | spilled) ≤ {epsilon:g}, δ {spent_delta(delta, settings.look_index):.3g} for it"
    )
    try:
        return with_overload(certified, table, settings, epsilon, delta, now, cache), None
    except NotCertifiedError as error:
        progress(f"no spill: {error.reason}")
        return certified, error.reason


def publish(
    candidate: Candidate,
    certified: Certified,
    settings: Settings,
    folder: Path,
    registry_uri: str,
    model: str,
    *,
    alias: str | None,
    artifacts_folder: Path | None = None,
) -> RegisteredVersion:
    """Seal the version with its report under `folder`, and register it with its numbers."""
    digest = hashlib.sha256(json.dumps([candidate.dataset_hash, str(settings)]).encode()).hexdigest()[:12]
    report = folder / f".report-{digest}"
    version = certified.version
    write = write_report if certified.evidence is not None else write_ladder_report
    numbers = write(report, candidate, certified, settings)
    sealed = folder / f"version-{digest}-{(version.certificate.made_at if version.certificate else 'x'):%Y%m%d%H%M%S}"
    version.save(sealed, extra=report)
    certificate = version.certificate
    prefixes = {f"prefix.{tier}": made.summary() for tier, made in version.prefix_certificates.items()}
    return register(
        registry_uri,
        model,
        sealed,
        params={
            "dataset_sha256": candidate.dataset_hash,
            "tiers": ",".join(settings.tiers),
            "promise": settings.promised,
            "router": candidate_family(version, settings.tiers[0], "router"),
            "verifier": candidate_family(version, settings.tiers[0], "verifier"),
            "epsilon": str(settings.epsilon),
            "delta": str(settings.delta),
            "look": str(settings.look_index),
            "seed": str(settings.seed),
            "prices": json.dumps({k: {n: str(v) for n, v in asdict(p).items()} for k, p in settings.prices.items()}),
        },
        metrics=numbers,
        tags={
            "dataset_sha256": candidate.dataset_hash,
            "certificate": certificate.summary() if certificate else "none",
            **{f"spill.{tier}": made.summary() for tier, made in version.overload_certificates.items()},
            "label_source": str(settings.label_source),
            "status": "approved" if alias == "stable" else "pending",
            **prefixes,
        },
        alias=alias,
        artifacts_folder=artifacts_folder,
    )


def candidate_family(version: RouterVersion, tier: str, what: str) -> str:
    """The registry name of one of a version's models."""
    part = getattr(version.stages[tier], what)
    return "none" if part is None else str(part.family)
