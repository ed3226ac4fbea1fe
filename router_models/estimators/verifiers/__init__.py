"""Verifier families by name. The registry is the list below; a new family is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router_models.estimators.verifiers.base import Verifier, VerifierModel
from router_models.estimators.verifiers.checks.nonempty import NonEmptyVerifier
from router_models.estimators.verifiers.language_model.agreement import AgreementVerifier
from router_models.estimators.verifiers.language_model.p_true import PTrueVerifier
from router_models.estimators.verifiers.language_model.reward import RewardVerifier
from router_models.estimators.verifiers.learned.combined import CombinedVerifier
from router_models.estimators.verifiers.learned.fitted import LearnedVerifier
from router_models.estimators.verifiers.learned.logprob import LogprobVerifier
from router_models.estimators.verifiers.rule_checks import ChecksVerifier
from router_models.estimators.verifiers.stacked import StackedVerifier

VERIFIERS: Mapping[str, type[VerifierModel]] = MappingProxyType(
    {
        cls.family: cls
        for cls in (
            NonEmptyVerifier,
            ChecksVerifier,
            LogprobVerifier,
            PTrueVerifier,
            AgreementVerifier,
            RewardVerifier,
            LearnedVerifier,
            StackedVerifier,
            CombinedVerifier,
        )
    }
)

__all__ = [
    "VERIFIERS",
    "AgreementVerifier",
    "ChecksVerifier",
    "CombinedVerifier",
    "ComposedVerifier",
    "LearnedVerifier",
    "LogprobVerifier",
    "NonEmptyVerifier",
    "PTrueVerifier",
    "RewardVerifier",
    "Verifier",
    "VerifierModel",
]
