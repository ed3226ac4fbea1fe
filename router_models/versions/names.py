"""Check the names of models and aliases before any work is done that they would waste.

MLflow checks them when a version is registered: after the labels were looked at. `name_fault` refuses what it refuses,
and the few names beyond that which could be registered and then not be found again.
"""

from __future__ import annotations

import posixpath
import re
from typing import Literal

from router_models.errors import RegistryError

Kind = Literal["alias", "model", "version"]
LONGEST_ALIAS = 255
LONGEST_MODEL_BYTES = 200
"""A version's local copy is a folder that bears the model's name."""
NOT_REGISTERED = frozenset({"none", "builtin"})
"""What `policy.version` may say instead of a registered version."""
_ALIAS = re.compile(r"[\w-]+")
_NUMBERED = re.compile(r"[vV]\d+")
_UNSAFE = re.compile(r"['\"\x00-\x1f\x7f\ud800-\udfff]")


def name_fault(kind: Kind, name: str) -> str | None:
    """Return what is wrong with a name; None where it can be used.

    Parameters
    ----------
    kind : {"alias", "model", "version"}
        The alias of a version; a registered model, whose name its experiment bears too; or how a version is asked
        for: by number, alias, or `latest`.
    name : str
        The name.

    Returns
    -------
    str or None
    """
    if kind == "model":
        return _model_fault(name)
    if kind == "version" and (name in NOT_REGISTERED or name.lower() == "latest" or re.fullmatch("[0-9]+", name)):
        return None
    if not name:
        return f"the {kind} is empty"
    if len(name) > LONGEST_ALIAS:
        return f"the {kind} {name[:20]!r}… has {len(name)} characters: {LONGEST_ALIAS} are allowed"
    if not _ALIAS.fullmatch(name):
        return f"the {kind} {name!r} holds more than letters, digits, underscores and dashes"
    if _NUMBERED.fullmatch(name):
        return f"the {kind} {name!r} is reserved for version numbers: write {name[1:]} for a version, or another alias"
    if name.lower() == "latest" or name in NOT_REGISTERED or name.isdigit():
        return f"the {kind} {name!r} has a meaning of its own: choose another"
    return None


def check_name(kind: Kind, name: str) -> None:
    """Raise RegistryError where `name_fault` finds one."""
    if (fault := name_fault(kind, name)) is not None:
        raise RegistryError(fault)


def _model_fault(name: str) -> str | None:
    if not name.strip():
        return "the model's name is empty"
    if unusable := {"/", ":"}.intersection(name):
        return f"the model's name {name!r} holds {' and '.join(map(repr, sorted(unusable)))}: use a dash"
    if posixpath.normpath(name) != name or name == "." or name.startswith(".."):
        return f"the model's name {name!r} would be another as a path: choose another"
    if _UNSAFE.search(name):
        return f"the model's name {name!r} holds quotes or characters that cannot be printed: leave them out"
    if (size := len(name.encode())) > LONGEST_MODEL_BYTES:
        return f"the model's name {name[:20]!r}… has {size} bytes: {LONGEST_MODEL_BYTES} are allowed"
    return None
