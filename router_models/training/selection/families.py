"""Which families of router and verifier a tier gets, and which signals its answers are asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import UNKNOWN, slices_of
from router_models.errors import DataError
from router_models.estimators.asked_signals import asked_among, cannot_ask
from router_models.estimators.registry import Registry
from router_models.estimators.routers import ROUTERS
from router_models.estimators.verifiers import VERIFIERS
from router_models.training.candidate import Settings
from router_models.training.evidence import answers_as_served
from router_models.training.selection.asking import (
    READING_VERIFIERS,
    VerifierChoice,
    asking_gains,
    lacking_first,
    per_thousand,
    recorded_signals,
    router_that_asks,
)
from router_models.training.selection.auto_router import choose_by_area
from router_models.training.selection.model_selection import (
    Scored,
    choose_router,
    choose_verifier,
    served_verifier_signals,
    usable_verifiers,
)
from router_models.types import Answers, FloatArray, IntArray, Progress
from router_models.types.exchange import verifier_of


def domain_labels(table: OutcomeTable) -> IntArray | None:
    """A number for every prompt's domain, (n,), -1 where it has none; None where fewer than two are recorded."""
    names = slices_of("domain", table.prompts)
    number = {name: i for i, name in enumerate(sorted(set(names) - {UNKNOWN}))}
    return np.array([number.get(name, -1) for name in names], dtype=np.int64) if len(number) > 1 else None


def choose_tier_router(
    train: OutcomeTable, tier: str, settings: Settings, progress: Progress
) -> tuple[Scored, list[Scored]]:
    """Return the router family of a tier, and all that were tried, by their scores out of fold.

    Raises DataError where the outcomes lack what the family that is named may ask for.
    """
    domains, y, seed = domain_labels(train), train.grade(tier), settings.seed
    if settings.router == "auto":
        chosen, budget_s, began = None, math.inf, time.monotonic()
        if settings.budget_s is not None:
            budget_s = settings.budget_s / (len(settings.tiers) - 1)
            chosen = choose_by_area(train, tier, settings.tiers[-1], budget_s, seed=seed, progress=progress)
        best, tried = chosen or choose_router(train.prompts, y, train.groups, seed=seed, domains=domains)
        if train.prompts.signals and time.monotonic() - began >= budget_s:
            progress(f"router asked-first: not tried, the budget of {budget_s:.0f} s is used up")
            return best, tried
        return router_that_asks(train, tier, settings, best, tried, progress) or best, tried
    if lacking := lacking_first(settings.router, train):
        raise DataError(
            f"router {settings.router}: the outcomes hold no {' and no '.join(lacking)} of tier {settings.tiers[0]!r} "
            f"that it may ask for: collect them (`serve-graph collect --signals {','.join(lacking)}`)"
        )
    _, tried = choose_router(train.prompts, y, train.groups, (settings.router,), seed=seed, domains=domains)
    return _named(settings.router, tried, ROUTERS), tried


def choose_tier_verifier(
    train: OutcomeTable, tier: str, estimate: FloatArray, settings: Settings, progress: Progress
) -> tuple[VerifierChoice, list[Scored]]:
    """Return the verifier family of a tier with the signals that it is shown, and all that were tried.

    `auto` asks for signals where that pays, unless `Settings.signals` says which; the last tier's are never asked for.
    """
    kind, y, seed = settings.kind(tier), train.grade(tier), settings.seed
    named = None if settings.verifier == "auto" else settings.verifier
    read: tuple[str, ...] = ()
    if named is not None:
        try:
            given = settings.signals if settings.signals is not None else train.answers_of(tier).signals
            read = served_verifier_signals(named, kind, [name for name in given if verifier_of(name) is not None])
            _check_asked_of(asked_among(read), tier, settings)
        except DataError as error:
            if tier != settings.tiers[-1]:
                raise DataError(f"tier {tier!r}: {error}") from None
            named = None  # the last tier's answers need no such verifier: nothing dearer could take over
    asked = asked_among((*(settings.signals or ()), *(read if named else ())))
    if tier == settings.tiers[-1]:
        asked = ()
    _check_asked_of(asked, tier, settings)

    def shown(signals: Sequence[str]) -> Answers:
        return answers_as_served(train, settings.tiers, tier, estimate, kind, signals)

    answers = shown(asked)
    if named is not None:
        _, tried = choose_verifier(answers, y, train.groups, (named,), seed=seed)
        return VerifierChoice(_named(named, tried, VERIFIERS), asked), tried
    families = READING_VERIFIERS if asked else usable_verifiers(answers)
    best, tried = choose_verifier(answers, y, train.groups, families, seed=seed)
    choice = VerifierChoice(best, asked)
    possible = recorded_signals(train, tier, settings)
    if settings.signals is not None or tier == settings.tiers[-1] or not possible:
        return choice, tried
    shown_more: dict[tuple[str, ...], Scored] = {}
    for more in (*((name,) for name in possible), *([possible] if len(possible) > 1 else [])):
        found, _ = choose_verifier(shown(more), y, train.groups, READING_VERIFIERS, seed=seed)
        shown_more[more] = found
        tried.append(replace(found, family=f"{found.family} with {' and '.join(more)}"))
    gains = asking_gains(train, tier, estimate, best, shown_more, settings)
    for more, gain in gains.items():
        pays = "they pay for themselves" if gain.low > 0 else "not asked for"
        progress(f"tier {tier}: {' and '.join(more)} after their calls save {per_thousand(gain)}: {pays}")
    paying = [more for more, gain in gains.items() if gain.low > 0]
    if not paying:
        return choice, tried
    dearest = max(paying, key=lambda more: gains[more].value)
    return VerifierChoice(shown_more[dearest], dearest), tried


def _check_asked_of(asked: Sequence[str], tier: str, settings: Settings) -> None:
    """Raise DataError where a signal cannot be asked for of a tier's answers in these tiers."""
    for name in asked:
        if tier == settings.tiers[-1]:
            raise DataError(f"the signal {name} is not asked for of the last tier's answers")
        if (why := cannot_ask(name, tier, settings.tiers[-1], settings.kinds, settings.asking)) is not None:
            raise DataError(f"tier {tier!r}: {why}")


def _named(family: str, tried: Sequence[Scored], registry: Registry[Any]) -> Scored:
    """The result of the family that was asked for, which may be the baseline itself."""
    name = registry.current_name(family)
    return next(scored for scored in tried if scored.family == name)
