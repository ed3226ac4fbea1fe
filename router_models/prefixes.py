"""Certify that the first N tokens of a cheap answer suffice to accept it: what the stream mode `prefix` stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from router_models.calibration.certificate import LabelSource
from router_models.calibration.sequence import Labelled
from router_models.calibration.thresholds import certify_threshold
from router_models.errors import DataError
from router_models.policy import Policy
from router_models.types import PREFIX, Completion, Decision, PrefixPoint, Query
from router_models.version import PREFIX_TOKENS, RouterVersion, prefix_point

PREFIX_RISK = "P(wrong | cheap accepted by its first tokens)"


@dataclass(frozen=True, slots=True)
class PrefixCase:
    """A query the router sends to the cheap tier, the first N tokens of the answer, and whether the *whole* was wrong.

    Only answers longer than N tokens belong here: shorter ones are judged whole, under the version's own certificate.
    """

    query: Query
    prefix: Completion
    wrong: bool


def certify_prefix(
    version: RouterVersion,
    tier: str,
    tokens: int,
    tune: Sequence[PrefixCase],
    cert: Sequence[PrefixCase],
    *,
    epsilon: float,
    delta: float,
    binds: Mapping[str, str],
    label_source: LabelSource | str,
    made_at: datetime,
    expires_at: datetime,
) -> RouterVersion:
    """The version with a prefix point for `tier`: P(wrong | prefix accepted) ≤ ε with confidence 1 - δ.

    `binds` is what the serving configuration is checked against, as for the version's own certificate. `tune` and
    `cert` share no prompt. Raises NotCertifiedError where no threshold keeps the promise, DataError for bad input.
    """
    if tokens < 1 or tier not in version.policy.points:
        raise DataError(f"a prefix needs tokens ≥ 1 and a tier with an operating point, got {tokens} and {tier!r}")
    certificate = certify_threshold(
        _labelled(version, tier, tokens, tune),
        _labelled(version, tier, tokens, cert),
        epsilon=epsilon,
        delta=delta,
        binds=binds,
        label_source=label_source,
        made_at=made_at,
        expires_at=expires_at,
        what=PREFIX_RISK,
    )
    certificate = replace(certificate, settings={**certificate.settings, PREFIX_TOKENS: float(tokens)})
    policy = version.policy
    prefixes = {**policy.prefixes, tier: prefix_point(certificate)}
    return replace(
        version,
        policy=Policy(policy.tiers, policy.points, prefixes),
        prefix_certificates={**version.prefix_certificates, tier: certificate},
    )


def _labelled(version: RouterVersion, tier: str, tokens: int, cases: Sequence[PrefixCase]) -> Labelled:
    """Score each prefix as the server would, with the router's estimate beside it."""
    policy = version.policy
    asking = replace(version, policy=replace(policy, prefixes={tier: PrefixPoint(tokens, 0.0)}))
    scores = []
    for case in cases:
        estimate = version.decide(case.query).p_cheap_ok
        prefix = replace(case.prefix, finish_reason=PREFIX)
        scores.append(asking.judge(case.query, prefix, Decision(tier, "certification", estimate)).p_ok)
    return Labelled.of(np.array(scores, dtype=np.float64), np.array([case.wrong for case in cases], dtype=np.float64))
