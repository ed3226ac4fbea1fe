"""A prefix point for a version that is certified already: on the same splits, with a δ and looks of its own.

The main certificate stays what it is: its labels are looked at once more, but for another promise, and a version for
which nothing can be promised of beginnings is the version that it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from router_models.data.outcomes import OutcomeTable, assert_disjoint, split
from router_models.errors import DataError
from router_models.training.candidate import SPLIT_SHARES, Settings
from router_models.training.certify import Certified
from router_models.training.prefix import certify_prefix, check_tokens, labelled_prefixes, routed_to
from router_models.versions.router_version import PREFIX_TOKENS, RouterVersion

SHORT, SHORT_ACCEPTED, SHORT_WRONG = "cert_judged_whole", "cert_whole_accepted", "cert_whole_wrong"
TOKENS_AHEAD = "cert_mean_tokens_ahead"


def check_prefix(table: OutcomeTable, settings: Settings, lengths: Sequence[int]) -> None:
    """Raise DataError where a prefix point cannot be asked for, before a label is looked at."""
    if settings.promised != "accepted":
        raise DataError(
            "a prefix verdict is certified for the promise `accepted`: there the routing threshold, which says whose "
            "beginnings are judged, is fixed before the labels are read"
        )
    if settings.slicer is not None:
        raise DataError("a prefix verdict is certified for all slices together: ask for slices or for a prefix")
    if not lengths or len(set(lengths)) != len(lengths):
        raise DataError(f"name the numbers of tokens to try for a prefix, each once; got {list(lengths)}")
    for tokens in lengths:
        check_tokens(table.only(*settings.tiers), settings.tiers[0], tokens)


def with_prefix(
    certified: Certified,
    table: OutcomeTable,
    settings: Settings,
    lengths: Sequence[int],
    now: datetime,
    cache: Path | None = None,
) -> Certified:
    """The certified version with a prefix point for its first tier: P(wrong | accepted by N tokens) ≤ ε as well.

    `settings.look_index` counts the looks at these labels *for a prefix*. Raises NotCertifiedError, with every
    length's reason and the labels missing; DataError as `check_prefix` does.
    """
    check_prefix(table, settings, lengths)
    tier, draft = settings.tiers[0], certified.version
    table = table.only(*settings.tiers).with_embeddings(draft.encoder, cache)
    parts = split(table, SPLIT_SHARES, settings.seed)
    assert_disjoint(parts)
    version = certify_prefix(
        draft,
        tier,
        lengths,
        parts,
        epsilon=settings.epsilon,
        delta=settings.delta,
        look_index=settings.look_index,
        label_source=settings.label_source,
        made_at=now,
        expires_at=now + timedelta(days=settings.valid_days),
    )
    return replace(certified, version=_bound(_described(version, tier, parts["cert"], certified), settings))


def _bound(version: RouterVersion, settings: Settings) -> RouterVersion:
    """All certificates bound to the version as it now is: the prefix verifier is one of its models."""
    assert version.certificate is not None
    binds = {**settings.binds, **version.binds(settings.prices)}
    return replace(
        version,
        certificate=replace(version.certificate, binds=binds),
        prefix_certificates={t: replace(made, binds=binds) for t, made in version.prefix_certificates.items()},
        overload_certificates={t: replace(made, binds=binds) for t, made in version.overload_certificates.items()},
    )


def _described(version: RouterVersion, tier: str, cert: OutcomeTable, certified: Certified) -> RouterVersion:
    """Note beside the promise what else a prefix stream shows on CERT: information, not part of the proof."""
    made, seen, point = version.prefix_certificates[tier], certified.evidence, version.policy.points[tier]
    assert seen is not None
    tokens = int(made.settings[PREFIX_TOKENS])
    routed = routed_to(version, tier, cert)
    lengths = np.array([len(cert.tokens[tier].texts[row]) for row in routed])
    short = routed[lengths <= tokens]
    kept = short[seen.p_cheap_ok[short] >= point.accept_at]
    scores = labelled_prefixes(version.prefix_stages[tier], tier, tokens, cert.take(routed)).scores
    ahead = (lengths[lengths > tokens] - tokens)[scores >= made.threshold_for()]
    noted = {
        SHORT: float(len(short)),
        SHORT_ACCEPTED: float(len(kept)),
        SHORT_WRONG: float(seen.cheap_wrong[kept].sum()),
        TOKENS_AHEAD: float(ahead.mean()),
    }
    made = replace(made, settings={**made.settings, **noted})
    return replace(version, prefix_certificates={**version.prefix_certificates, tier: made})
