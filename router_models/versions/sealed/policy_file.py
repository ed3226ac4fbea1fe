"""`policy.json`: the ladder, its thresholds and families, and the certificates of prefixes and overload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from router_models.data.embeddings.encoder import PRODUCTS
from router_models.data.features import FEATURES_VERSION
from router_models.errors import ArtifactError, CertificateError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.types import PrefixPoint
from router_models.versions.policy import OverloadPoint
from router_models.versions.sealed.tier_models import families_of

if TYPE_CHECKING:
    from router_models.versions.router_version import RouterVersion

PREFIX_TOKENS = "prefix_tokens"


def policy_values(version: RouterVersion) -> dict[str, object]:
    """Return what `policy.json` holds of a version."""
    return {
        "features_version": FEATURES_VERSION,
        "encoder_products": getattr(version.encoder, "products", PRODUCTS[0]),  # another TextEncoder has none
        "tiers": list(version.policy.tiers),
        "slicer": version.slicer,
        "stated_slices": version.stated_slices,
        "prefix_certificates": {tier: made.to_json() for tier, made in version.prefix_certificates.items()},
        "spill_certificates": {tier: made.to_json() for tier, made in version.overload_certificates.items()},
        "home": version.novelty is not None,
        "spelling": version.spelling is not None,
        "points": {
            tier: [plain_number(p.route_at), plain_number(p.accept_at), p.abstain_below]
            for tier, p in version.policy.points.items()
        },
        "chain": version.policy.chain,
        "families": families_of(version.stages),
        "prefix_families": families_of(version.prefix_stages),
        "judges_calls": list(version.judges_calls),
        "longest_prompt": version.longest_prompt,
        "score_quantiles": list(version.score_quantiles),
    }


def read_certificate(file: Path, data: object) -> Certificate:
    """Return the certificate that a file holds; ArtifactError or CertificateError, naming the file."""
    try:
        return Certificate.from_json(data)  # type: ignore[arg-type]  # which says what is wrong with anything else
    except (ArtifactError, CertificateError) as error:
        raise type(error)(f"{file}: {error}") from error
    except Exception as error:
        raise ArtifactError(f"{file}: not a certificate ({type(error).__name__}: {error!s:.300})") from error


def prefix_point(certificate: Certificate) -> PrefixPoint:
    """What a prefix certificate permits; its settings carry N. Raises KeyError where it is no prefix certificate."""
    return PrefixPoint(int(certificate.settings[PREFIX_TOKENS]), certificate.threshold_for())


def overload_point(certificate: Certificate) -> OverloadPoint:
    """What an overload certificate permits; where slices are certified each is asked for its own threshold."""
    return OverloadPoint(np.inf if certificate.threshold is None else certificate.threshold, certificate.epsilon)


def plain_number(x: float) -> float | str:
    """JSON knows no infinity; float() reads 'inf' back."""
    return x if np.isfinite(x) else str(x)
