"""The registry of verifier families by name; a new family is a file and a line here."""

from __future__ import annotations

from router_models.estimators.registry import Registry
from router_models.estimators.verifiers.base import Verifier, VerifierModel
from router_models.estimators.verifiers.checks.nonempty import NonEmptyVerifier
from router_models.estimators.verifiers.language_model.agreement import AgreementVerifier
from router_models.estimators.verifiers.language_model.first_token import FirstTokenEntropyVerifier
from router_models.estimators.verifiers.language_model.last_tier import (
    LastTierLikelihoodVerifier,
    LastTierVerdictVerifier,
)
from router_models.estimators.verifiers.language_model.p_true import PTrueVerifier, SelfVerificationVerifier
from router_models.estimators.verifiers.language_model.reward import RewardVerifier
from router_models.estimators.verifiers.learned.combined import CombinedVerifier
from router_models.estimators.verifiers.learned.fitted import LearnedVerifier
from router_models.estimators.verifiers.learned.logprob import LogprobVerifier
from router_models.estimators.verifiers.rule_checks import RuleChecksVerifier
from router_models.estimators.verifiers.stacked import StackedVerifier

VERIFIERS: Registry[VerifierModel] = Registry(
    "verifier",
    (
        NonEmptyVerifier,
        RuleChecksVerifier,
        LogprobVerifier,
        FirstTokenEntropyVerifier,
        PTrueVerifier,
        SelfVerificationVerifier,
        AgreementVerifier,
        LastTierVerdictVerifier,
        LastTierLikelihoodVerifier,
        RewardVerifier,
        LearnedVerifier,
        StackedVerifier,
        CombinedVerifier,
    ),
)
"""Every verifier family, from the baseline to the default; `VERIFIERS["combined"]` is its class."""

__all__ = [
    "VERIFIERS",
    "AgreementVerifier",
    "CombinedVerifier",
    "FirstTokenEntropyVerifier",
    "LastTierLikelihoodVerifier",
    "LastTierVerdictVerifier",
    "LearnedVerifier",
    "LogprobVerifier",
    "NonEmptyVerifier",
    "PTrueVerifier",
    "RewardVerifier",
    "RuleChecksVerifier",
    "SelfVerificationVerifier",
    "StackedVerifier",
    "Verifier",
    "VerifierModel",
]
