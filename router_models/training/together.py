"""One δ for everything that a version promises, so that all of it holds at once.

The risk of accepted answers, the share of abstentions, the verdict on first tokens and the overload fallback are
tested apart. Each holds with confidence 1 - δ; that all four hold at once is sure only to 1 - 4δ. With δ divided by
their number all of them hold at once with 1 - δ.

Patterns of which one is taken share δ in the same way: each is tested at its part, so that the one that is taken keeps
its promise with 1 - δ however it was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.promise import PatternName, TestedPattern, patterns_for
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified, bound, certify_candidate
from router_models.training.splits import LabelledSplits


def statements(settings: Settings, *, prefix: bool = False, overload: bool = False) -> int:
    """How many statements are tested apart: what `certificate.separate` will count at most, and those beside it.

    Parameters
    ----------
    settings : Settings
        What is to be promised. Thresholds that are certified together (`answered`, and `harm` of three tiers or more)
        make one test of all their risks.
    prefix, overload : bool
        Whether a prefix point, or an overload point, is asked for.
    """
    abstention = not settings.joint and settings.pattern != "pre-route" and settings.abstain_share > 0
    return 1 + abstention + prefix + overload


def jointly(settings: Settings, *, prefix: bool = False, overload: bool = False) -> Settings:
    """The settings with δ divided among the statements, for each of them."""
    return replace(settings, delta=settings.delta / statements(settings, prefix=prefix, overload=overload))


def certify_patterns(
    candidate: Candidate,
    splits: LabelledSplits,
    settings: Settings,
    now: datetime,
    look: Callable[[], Settings] | None = None,
) -> tuple[Certified, Settings]:
    """Certify the pattern that is asked for; of `auto` every one, and take that with the lowest net cost on CERT.

    Parameters
    ----------
    candidate, splits, settings, now : Candidate
        As `certify_candidate` takes them.
    look : callable, optional
        As `certify_candidate` calls it; once at most, whatever the number of patterns.

    Returns
    -------
    Certified
        The version; its certificate says what became of the others.
    Settings
        Those that it was certified with.

    Raises
    ------
    NotCertifiedError
        Where no pattern can be certified: every one's reason.
    DataError
        For outcomes that cannot serve, or tiers that cannot be pre-routed.
    """
    if settings.pattern != "auto":
        return certify_candidate(candidate, splits, settings, now, look), settings
    patterns = patterns_for(len(settings.tiers))
    for pattern in patterns:
        replace(settings, pattern=pattern).check_pattern()
    looked: list[int] = []
    found: dict[PatternName, Certified] = {}
    refused: dict[PatternName, NotCertifiedError] = {}
    used: dict[PatternName, Settings] = {}
    for pattern in patterns:
        own = replace(settings, pattern=pattern, patterns_tried=len(patterns))

        def once(own: Settings = own) -> Settings:
            if look is not None and not looked:
                looked.append(look().look_index)
            return replace(own, look_index=looked[0]) if looked else own

        try:
            found[pattern] = certify_candidate(candidate, splits, own, now, once)
            used[pattern] = once()
        except NotCertifiedError as error:
            refused[pattern] = error
    if not found:
        missing = [error.labels_missing for error in refused.values() if error.labels_missing is not None]
        reasons = "; ".join(f"{pattern}: {error.reason.rstrip('.')}" for pattern, error in refused.items())
        raise NotCertifiedError(f"{reasons}.", min(missing) if missing else None)
    taken = max(found, key=lambda pattern: _saved(found[pattern]))
    rows = tuple(_tested(pattern, found.get(pattern), refused.get(pattern), taken) for pattern in patterns)
    version = found[taken].version
    assert version.certificate is not None
    told = replace(version, certificate=replace(version.certificate, patterns=rows))
    return replace(found[taken], version=bound(told, used[taken])), used[taken]


def _saved(certified: Certified) -> float:
    made = certified.version.certificate
    return -1.0 if made is None or made.compared is None else made.compared.cost_saved[0]


def _tested(
    pattern: PatternName, found: Certified | None, refused: NotCertifiedError | None, taken: PatternName
) -> TestedPattern:
    made = None if found is None else found.version.certificate
    if made is None or made.compared is None:
        return TestedPattern(pattern, False, why_not="" if refused is None else refused.reason)
    seen = made.compared
    return TestedPattern(
        pattern, pattern == taken, made.accepted_n, made.errors, seen.cost_saved, seen.right_difference
    )
