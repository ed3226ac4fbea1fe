"""Errors of the offline package.

    RouterModelsError
    ├── DataError            the outcomes cannot be used as they are (columns, classes, values, duplicates)
    ├── NotFittedError       an estimator was used before it was fitted
    ├── ArtifactError        a stored router, report or model folder is damaged or incomplete
    ├── CertificateError     a certificate is void: expired, or made for something else than what is served
    ├── NotCertifiedError    nothing meets the risk budget; holds the reason and how many labels are missing
    ├── LossError            a version's tries would cost more than they save
    ├── SandboxUnavailableError  generated code cannot be confined on this machine, so it is not run
    └── RegistryError        the model registry cannot be reached or has no such version

Each message says what was attempted, what was found and what to do. `RenamedWarning` is a DeprecationWarning,
`AdjustedWarning` a UserWarning. `by_number` words what a message, or a result, counts.
"""

from __future__ import annotations


class RouterModelsError(Exception):
    """Base class of every error that `router_models` raises on purpose."""


class DataError(RouterModelsError, ValueError):
    """Raised where the given data cannot support the operation."""


class NotFittedError(RouterModelsError):
    """Raised where an estimator is used before `fit`."""


class ArtifactError(RouterModelsError):
    """Raised where a stored artifact is missing, incomplete or altered."""


class CertificateError(RouterModelsError):
    """Raised where a certificate does not cover what is being served."""


class NotCertifiedError(RouterModelsError):
    """No operating point keeps the risk budget on the evidence given.

    Parameters
    ----------
    reason : str
        What was found, in a sentence: the message.
    labels_missing : int, optional
        An estimate of how many more CERT labels would be needed; None when no number would do.
    """

    def __init__(self, reason: str, labels_missing: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.labels_missing = labels_missing


class LossError(RouterModelsError):
    """Raised where a version would lose money by what was measured of its tries, and nobody said that it may."""


class SandboxUnavailableError(RouterModelsError):
    """Raised where untrusted programs cannot be confined on this machine; none is run."""


class RegistryError(RouterModelsError):
    """Raised where the model registry cannot be reached or has no such version."""


class RenamedWarning(DeprecationWarning):
    """Warn that a former name was used. It is accepted for one release; the message has the present name."""


class AdjustedWarning(UserWarning):
    """Warn that values of a file were adjusted (grades clipped by less than rounding); the message says which."""


def by_number(n: float, one: str, several: str | None = None) -> str:
    """Return the word that goes with a number: `one` of exactly 1, else `several` (by default with an s)."""
    return one if n == 1 else f"{one}s" if several is None else several
