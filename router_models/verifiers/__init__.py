"""Verifier families by name. The registry is the list below; a new family is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router_models.verifiers.agreement import AgreementVerifier
from router_models.verifiers.base import Verifier, VerifierModel
from router_models.verifiers.checked import ChecksVerifier
from router_models.verifiers.combined import CombinedVerifier
from router_models.verifiers.composed import ComposedVerifier
from router_models.verifiers.learned import LearnedVerifier
from router_models.verifiers.logprob import LogprobVerifier
from router_models.verifiers.nonempty import NonEmptyVerifier
from router_models.verifiers.p_true import PTrueVerifier
from router_models.verifiers.reward import RewardVerifier

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
            ComposedVerifier,
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
