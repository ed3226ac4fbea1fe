"""Train, certify and register router versions from graded outcomes; no serving library is needed.

    from router_models import Encoder, Settings, certify_candidate, fit_candidate, read_outcomes, split_outcomes

The names below are the public ones; what else the modules hold may move. A name is loaded from its module when it is
first asked for, so that importing the package loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router_models.data.embeddings.encoder import Encoder
    from router_models.data.outcomes import OutcomeTable, read_outcomes
    from router_models.errors import NotCertifiedError
    from router_models.estimators.routers import ROUTERS
    from router_models.estimators.routers.fallback import RouterWithFallback
    from router_models.estimators.verifiers import VERIFIERS
    from router_models.metrics.probability import auc
    from router_models.metrics.routing import apgr, cpt, routing_curve
    from router_models.monitoring.canary.evidence import CanaryEvidence
    from router_models.monitoring.canary.findings import CanaryFinding
    from router_models.monitoring.canary.observations import ArmOutcome, PairedRequest
    from router_models.monitoring.canary_limits import CanaryLimits
    from router_models.monitoring.off_policy import LoggedDecisions, OffPolicyEstimate, estimate_off_policy
    from router_models.pipeline import run_pipeline
    from router_models.pricing.prices import Price, PriceList
    from router_models.risk_control.certificates.certificate import Certificate
    from router_models.risk_control.certificates.terms import CertificateTerms
    from router_models.risk_control.labels import labels_needed
    from router_models.risk_control.sequence import Labelled
    from router_models.risk_control.thresholds import certify_threshold
    from router_models.training.candidate import Candidate, Settings
    from router_models.training.certify import certify_candidate
    from router_models.training.fit import fit_candidate
    from router_models.training.splits import LabelledSplits, split_outcomes
    from router_models.types import Completion, Query
    from router_models.versions.policy import Policy
    from router_models.versions.router_version import RouterVersion

__version__: str

__all__ = [
    "ROUTERS",
    "VERIFIERS",
    "ArmOutcome",
    "CanaryEvidence",
    "CanaryFinding",
    "CanaryLimits",
    "Candidate",
    "Certificate",
    "CertificateTerms",
    "Completion",
    "Encoder",
    "Labelled",
    "LabelledSplits",
    "LoggedDecisions",
    "NotCertifiedError",
    "OffPolicyEstimate",
    "OutcomeTable",
    "PairedRequest",
    "Policy",
    "Price",
    "PriceList",
    "Query",
    "RouterVersion",
    "RouterWithFallback",
    "Settings",
    "apgr",
    "auc",
    "certify_candidate",
    "certify_threshold",
    "cpt",
    "estimate_off_policy",
    "fit_candidate",
    "labels_needed",
    "read_outcomes",
    "routing_curve",
    "run_pipeline",
    "split_outcomes",
]

_MODULES = {
    "data.embeddings.encoder": ("Encoder",),
    "data.outcomes": ("OutcomeTable", "read_outcomes"),
    "errors": ("NotCertifiedError",),
    "estimators.routers": ("ROUTERS",),
    "estimators.routers.fallback": ("RouterWithFallback",),
    "estimators.verifiers": ("VERIFIERS",),
    "metrics.probability": ("auc",),
    "metrics.routing": ("apgr", "cpt", "routing_curve"),
    "monitoring.canary.evidence": ("CanaryEvidence",),
    "monitoring.canary.findings": ("CanaryFinding",),
    "monitoring.canary_limits": ("CanaryLimits",),
    "monitoring.canary.observations": ("ArmOutcome", "PairedRequest"),
    "monitoring.off_policy": ("LoggedDecisions", "OffPolicyEstimate", "estimate_off_policy"),
    "pipeline": ("run_pipeline",),
    "pricing.prices": ("Price", "PriceList"),
    "risk_control.certificates.certificate": ("Certificate",),
    "risk_control.labels": ("labels_needed",),
    "risk_control.sequence": ("Labelled",),
    "risk_control.certificates.terms": ("CertificateTerms",),
    "risk_control.thresholds": ("certify_threshold",),
    "training.candidate": ("Candidate", "Settings"),
    "training.certify": ("certify_candidate",),
    "training.fit": ("fit_candidate",),
    "training.splits": ("LabelledSplits", "split_outcomes"),
    "types": ("Completion", "Query"),
    "versions.policy": ("Policy",),
    "versions.router_version": ("RouterVersion",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("serve-graph")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
