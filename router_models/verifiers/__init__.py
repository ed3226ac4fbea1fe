"""Verifier families by name. The registry is the list below; a new family is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router_models.verifiers.base import Verifier, VerifierModel
from router_models.verifiers.nonempty import NonEmptyVerifier

VERIFIERS: Mapping[str, type[VerifierModel]] = MappingProxyType({cls.family: cls for cls in (NonEmptyVerifier,)})

__all__ = ["VERIFIERS", "NonEmptyVerifier", "Verifier", "VerifierModel"]
