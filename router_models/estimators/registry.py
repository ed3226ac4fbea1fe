"""Registries of estimator families, in which a family's former name still leads to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Protocol, TypeVar

from router_models.errors import RenamedWarning


class _Family(Protocol):
    family: ClassVar[str]


F = TypeVar("F", bound=_Family)

FORMER_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "router": MappingProxyType({"asked": "p-yes"}),
        "verifier": MappingProxyType({"composed": "stacked", "checks": "rule-checks"}),
    }
)
"""By kind of estimator: the former name of a family, and its present one."""


class Registry(Mapping[str, type[F]]):
    """Estimator classes by the name of their family, in the order given.

    A lookup takes a present or a former name and is silent about it, because stored versions name a family as the
    release that wrote them did. Names that a user gave go through `current_name`, which warns. Iteration yields
    present names only.

    Parameters
    ----------
    kind : str
        What the estimators are, a key of `FORMER_NAMES` and the word used in messages: ``"router"`` or ``"verifier"``.
    classes : iterable of type
        The estimator classes; each has a class attribute ``family``.
    """

    def __init__(self, kind: str, classes: Iterable[type[F]]) -> None:
        self.kind = kind
        self._classes = {cls.family: cls for cls in classes}

    def __getitem__(self, name: str) -> type[F]:
        return self._classes[FORMER_NAMES[self.kind].get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def current_name(self, name: str) -> str:
        """Return the present name of a family that a user named; warn where that is not the name given.

        Parameters
        ----------
        name : str
            A present, former or unknown name.

        Returns
        -------
        str
            The present name; an unknown name is returned unchanged.

        Warns
        -----
        RenamedWarning
            The name is a former one. It is accepted for one release.
        """
        if (current := FORMER_NAMES[self.kind].get(name)) is None:
            return name
        warnings.warn(
            f"the {self.kind} family {name!r} is now called {current!r}; the old name goes with the next release",
            RenamedWarning,
            stacklevel=3,
        )
        return current


def original_name(kind: str, family: str) -> str:
    """Return the first name that a family was stored under; digests use it, so that a rename changes no digest."""
    return next((former for former, name in FORMER_NAMES.get(kind, {}).items() if name == family), family)
