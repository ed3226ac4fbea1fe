"""What can go wrong offline.

    RouterModelsError
    ├── DataError            the outcomes cannot be used as they are (columns, classes, values, duplicates)
    ├── NotFittedError       an estimator was asked before it was fitted
    ├── ArtifactError        a stored router, report or model folder is damaged or incomplete
    ├── CertificateError     a certificate is void: expired, or made for something else than what is served
    ├── NotCertifiedError    nothing meets the risk budget; carries why and how many labels are missing
    ├── SandboxUnavailableError  a program a model wrote cannot be confined on this machine, so it is not run
    └── RegistryError        the model registry cannot be reached or has no such version

Each message says what was asked, what was found and what to do.
"""

from __future__ import annotations


class RouterModelsError(Exception):
    """Base of everything `router_models` raises on purpose."""


class DataError(RouterModelsError, ValueError):
    """The data handed in cannot support what was asked."""


class NotFittedError(RouterModelsError):
    """An estimator was used before `fit`."""


class ArtifactError(RouterModelsError):
    """A stored artifact is missing, half-written or altered."""


class CertificateError(RouterModelsError):
    """A certificate does not cover what is being served."""


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


class SandboxUnavailableError(RouterModelsError):
    """Untrusted programs cannot be confined on this machine, so none is run."""


class RegistryError(RouterModelsError):
    """The model registry cannot be reached, or holds no such version."""
