"""A prefix point for a version that is certified already: on the same splits, with a δ and looks of its own.

The main certificate stays what it is: its labels are read once more, but for another promise, and a version for which
nothing can be promised of answers' first tokens is the version that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.signals import check_served
from router_models.training.candidate import Settings
from router_models.training.certify import Certified, bound
from router_models.training.prefix import certify_prefix, check_tokens, labelled_prefixes, routed_to
from router_models.training.splits import LabelledSplits
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.policy_file import PREFIX_TOKENS

SHORT, SHORT_ACCEPTED, SHORT_WRONG = "cert_judged_whole", "cert_whole_accepted", "cert_whole_wrong"
TOKENS_AHEAD = "cert_mean_tokens_ahead"


def check_prefix(table: OutcomeTable, settings: Settings, lengths: Sequence[int]) -> None:
    """Raise DataError where a prefix point cannot be asked for, before a label is looked at."""
    if settings.joint:
        raise DataError(
            "a prefix verdict is certified for the promise `harm` or `accepted` of two tiers: there the routing "
            "threshold, which says whose prefixes are judged, is fixed before the labels are read"
        )
    if settings.slicer is not None:
        raise DataError("a prefix verdict is certified for all slices together: ask for slices or for a prefix")
    check_served(f"a prefix verdict for tier {settings.tiers[0]!r}", LOGPROB_NAMES, settings.kind(settings.tiers[0]))
    if not lengths or len(set(lengths)) != len(lengths):
        raise DataError(f"name the numbers of tokens to try for a prefix, each once; got {list(lengths)}")
    for tokens in lengths:
        check_tokens(table.only(*settings.tiers), settings.tiers[0], tokens)


def with_prefix(
    certified: Certified,
    splits: LabelledSplits,
    settings: Settings,
    lengths: Sequence[int],
    now: datetime,
    look: Callable[[], Settings] | None = None,
) -> Certified:
    """The certified version with a prefix point for its first tier: its risk, of what N tokens accept, is ≤ ε as well.

    Parameters
    ----------
    certified : Certified
        What `certify_candidate` made of the same splits.
    splits : LabelledSplits
        The candidate's, with embeddings.
    settings : Settings
        Their `look_index` counts the looks at these labels *for a prefix*.
    lengths : sequence of int
        The numbers of tokens to try, in this order.
    now : datetime
        When the certificate is made.
    look : callable, optional
        As `certify_candidate` takes it.

    Raises
    ------
    NotCertifiedError
        With every length's reason and the labels missing.
    DataError
        As `check_prefix` does.
    """
    check_prefix(splits.table, settings, lengths)
    tier = settings.tiers[0]
    rests_on = splits.labels_used
    looked = None if look is None else lambda: look().terms(now, rests_on)
    version = certify_prefix(certified.version, tier, lengths, splits, settings.terms(now, rests_on), looked)
    # The prefix verifier is one of the version's models, so that its other certificates are bound anew as well.
    return replace(certified, version=bound(_described(version, tier, splits.cert, certified), settings))


def _described(version: RouterVersion, tier: str, cert: OutcomeTable, certified: Certified) -> RouterVersion:
    """Note beside the promise what else a prefix stream shows on CERT: information, not part of the proof."""
    made, seen, point = version.prefix_certificates[tier], certified.evidence, version.policy.points[tier]
    tokens = int(made.settings[PREFIX_TOKENS])
    routed = routed_to(version, tier, cert)
    lengths = np.array([len(cert.tokens[tier].texts[row]) for row in routed])
    short = routed[lengths <= tokens]
    kept = short[seen.p_ok[short, 0] >= point.accept_at]
    bad = seen.harm[kept, 0] if made.harm else 1.0 - seen.grades[kept, 0]
    scores = labelled_prefixes(version.prefix_stages[tier], tier, tokens, cert.take(routed)).scores
    ahead = (lengths[lengths > tokens] - tokens)[scores >= made.threshold_for()]
    noted = {
        SHORT: float(len(short)),
        SHORT_ACCEPTED: float(len(kept)),
        SHORT_WRONG: float(bad.sum()),
        TOKENS_AHEAD: float(ahead.mean()),
    }
    made = replace(made, settings={**made.settings, **noted})
    return replace(version, prefix_certificates={**version.prefix_certificates, tier: made})
