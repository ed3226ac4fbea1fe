"""Outcomes → candidate → certified version → registry: the offline twin of `cascade.answer`, on one screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import read_outcomes
from router_models.data.text_cache import each_text_once
from router_models.errors import NotCertifiedError
from router_models.reports.publish import publish
from router_models.risk_control.sequence import spent_delta
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified, check_candidate
from router_models.training.certify_overload import with_overload
from router_models.training.certify_prefix import check_prefix, with_prefix
from router_models.training.fit import fit_candidate
from router_models.training.labelling.label_budget import LabelBudget
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.training.together import certify_patterns
from router_models.training.whose_labels import with_label_source
from router_models.types import Progress
from router_models.versions.names import check_name
from router_models.versions.registry import RegisteredVersion
from router_models.versions.router_version import RouterVersion
from router_models.versions.workspace import Workspace


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
    label_source: str | None = None,
    check: Callable[[RouterVersion], None] = lambda _: None,
    approved_by: str | None = None,
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
        Points at the new version, for example `stable`, unless it is on an approved one (`publish`).
    prefix : sequence of int
        Numbers of tokens to try for a prefix point; none by default.
    label_source : str, optional
        Who graded the rows that do not say (`with_label_source`).
    check : callable
        Called with the certified version before it is registered; what it raises, for example that the version would
        lose money, leaves nothing behind but the look at the labels.
    approved_by : str, optional
        Who approves the version from the start; None: it is proposed, and takes no traffic until somebody does.
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
    RegistryError
        For a name of a model or an alias that the registry would refuse, before anything is read.
    """
    work, encoder = Workspace(state_folder, registry_uri, model, progress), Encoder()
    if alias is not None:
        check_name("alias", alias)
    table = read_outcomes(outcomes, settings.tiers, metadata=[settings.group_by] if settings.group_by else ())
    table = with_label_source(table, label_source)
    if prefix:
        check_prefix(table, settings, prefix)
    progress(f"embedding {len(table)} prompts")
    splits = split_outcomes(
        table,
        settings.tiers,
        settings.seed,
        settings.group_by,
        counted=settings.counted_tiers,
        last_ungraded=settings.harm,
    ).with_embeddings(encoder, work.embeddings, progress)
    progress("choosing and fitting router and verifier")
    candidate = fit_candidate(splits, settings, encoder, progress)
    progress("certifying")
    with each_text_once():  # parts of prompts are embedded for what is covered, by both
        certified, settings = certify_next(candidate, splits, settings, now, work)
        check(certified.version)
        if prefix:
            certified, _ = certify_prefix_next(certified, splits, settings, prefix, now, work)
    return publish(candidate, certified, settings, work, alias=alias, approved_by=approved_by)


def certify_next(
    candidate: Candidate,
    splits: LabelledSplits,
    settings: Settings,
    now: datetime,
    work: Workspace,
    *,
    only_look: bool = False,
) -> tuple[Certified, Settings]:
    """Certify with this look's share of δ: the registry counts every look at any of these labels, failed ones too.

    All looks together keep the promise with confidence 1 - δ, whether or not rows were added between them. With
    `only_look` this one spends δ whole, and every other at these labels is refused. Returns the settings with their
    look index. Raises as `certify_candidate` does; what TUNE alone refuses is no look.
    """
    check_candidate(candidate, settings)
    budget = LabelBudget(splits, settings, work, noted={"seed": str(settings.seed)}, only=only_look)
    looked = [budget.foreseen()]

    def look() -> Settings:
        looked.append(budget.look())
        index, delta = looked[-1].look_index, settings.delta
        if only_look:
            work.progress(f"the only look at these labels: all of δ {delta:g}, and none is left for another")
            return looked[-1]
        chose = f", after {' and '.join(budget.choices)} chose on them" if budget.choices else ""
        spent = sum(spent_delta(delta, i) for i in range(1, index + 1))
        work.progress(
            f"look {index} at these labels{chose}: δ {looked[-1].level:.3g} for this one, {spent:.3g} spent of "
            f"{delta:g}; labels of other prompts begin anew"
        )
        return looked[-1]

    certified, used = certify_patterns(candidate, splits, looked[0], now, look)
    return certified, replace(looked[-1], pattern=used.pattern, patterns_tried=used.patterns_tried)


def certify_prefix_next(
    certified: Certified,
    splits: LabelledSplits,
    settings: Settings,
    lengths: Sequence[int],
    now: datetime,
    work: Workspace,
    *,
    only_look: bool = False,
) -> tuple[Certified, str | None]:
    """A certified version with a prefix point; or, where none certifies, as it was, and why.

    Looks are counted apart from `certify_next`'s: the prefix promise has a δ of its own; `only_look` spends it whole.
    """
    noted = {"prefix": ",".join(map(str, lengths))}
    budget = LabelBudget(splits, settings, work, purpose="prefix", noted=noted, only=only_look)

    def look() -> Settings:
        looked = budget.look()
        which = "the only look" if only_look else f"look {looked.look_index}"
        work.progress(f"certifying a prefix: {which} at these labels for one, δ {looked.level:.3g} for it")
        return looked

    try:
        return with_prefix(certified, splits, budget.foreseen(), lengths, now, look), None
    except NotCertifiedError as error:
        work.progress(f"no prefix verdict: {error.reason}")
        return certified, error.reason


def certify_overload_next(
    certified: Certified,
    splits: LabelledSplits,
    settings: Settings,
    epsilon: float,
    delta: float,
    now: datetime,
    work: Workspace,
) -> tuple[Certified, str | None]:
    """A certified version with an overload point; or, where none certifies, as it was, and why.

    `settings` are what `certify_next` gave back: it is the same look at the labels. The last certificate to be added:
    it is bound to the version as it then is.
    """
    level = spent_delta(delta, settings.look_index)
    work.progress(
        f"certifying the overload fallback: P(wrong | served on overload) ≤ {epsilon:g}, δ {level:.3g} for it"
    )
    try:
        return with_overload(certified, splits, settings, epsilon, delta, now), None
    except NotCertifiedError as error:
        work.progress(f"no overload fallback: {error.reason}")
        return certified, error.reason
