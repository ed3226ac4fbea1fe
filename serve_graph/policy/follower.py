"""What the registry wants served, looked up again and again: an alias that moved, a review that was withdrawn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from router_models.errors import ArtifactError, RegistryError
from router_models.versions.registry import RegisteredVersion, find_version
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_version import NONE, ServedVersion
from serve_graph.policy.serving_version import Served, serving_version

logger = logging.getLogger(__name__)
REFUSED_FOR_S = 60.0
"""How long a version that no replica could load is taken for one that may not be served."""


class RegistryFollower:
    """Compare what the registry names with what is served.

    A version that may not be served never takes the place of one that may: the one served stays, and it is said why.
    Where that one may not be served any more either (rejected, for instance), none is. A registry that cannot be asked
    about the version that is served changes nothing.
    """

    def __init__(self, config: GraphConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.clock = clock
        self._seen: Mapping[str, object] | None = None
        self._said: str | None = None
        self._refused: dict[str, tuple[str, float]] = {}

    def look(self, now: ServedVersion) -> ServedVersion | None:
        """What is to be served instead of `now`; None where that is to stay, as it does while the registry is down.

        The registry is asked for the version's tags alone; files are read where something changed.
        """
        try:
            seen = self._names(now)
            if seen == self._seen:
                return None
            found, is_final = self._chosen(now)
        except (RegistryError, ArtifactError) as error:
            if str(error) != self._said:
                self._said = str(error)
                logger.warning("%s stays served: %s", now.name, error)
            return None
        if is_final:
            self._seen, self._said = seen, None
        return None if _is_same(found, now) else found

    def forget(self) -> None:
        """Look again at what was seen last: it could not be served."""
        self._seen = None

    def refuse(self, name: str, reason: str, for_s: float = REFUSED_FOR_S) -> None:
        """Take a version for one that may not be served, for some seconds."""
        self._refused[name] = reason, self.clock() + for_s
        self.forget()

    def resolve(self, name: str) -> Served:
        """A version by its name, as `serving_version` finds what may be served; damaged files are a refusal.

        Raises RegistryError where the registry cannot be asked, or does not hold it any more.
        """
        if name == NONE:
            return Served(None, None, "no version was served")
        policy = self.config.policy.model_copy(update={"version": name.rpartition("/")[2]})
        found = self._found(self.config.model_copy(update={"policy": policy}))
        if found.version is None and not found.refused:
            raise RegistryError(found.reason)  # it was served: a registry without it is not what it was
        return found

    def _chosen(self, now: ServedVersion) -> tuple[ServedVersion, bool]:
        """What is to be served, and whether that stands until something changes."""
        try:
            wanted, is_final = self._found(self.config), True
        except RegistryError as error:
            if now.name == NONE:
                raise
            wanted, is_final = Served(None, None, str(error)), False
        if wanted.version is not None or now.name == NONE:
            return ServedVersion.of(wanted, self.config), is_final
        kept = self.resolve(now.name)
        if kept.version is None:
            return ServedVersion.of(kept if not is_final else wanted, self.config), is_final
        note = f"{now.name} stays served, for what the registry names is not: {wanted.reason}"
        return ServedVersion.of(kept, self.config, note=note), is_final

    def _found(self, config: GraphConfig) -> Served:
        try:
            found = reached(serving_version(config))
        except ArtifactError as error:
            return Served(None, None, str(error), refused=True)
        if found.name in self._held_off():
            return Served(None, None, self._refused[found.name][0], refused=True)
        return found

    def _held_off(self) -> list[str]:
        now = self.clock()
        return sorted(name for name, (_, until) in self._refused.items() if now < until)

    def _names(self, now: ServedVersion) -> dict[str, object]:
        policy = self.config.policy
        named = find_version(self.config.registry_uri, policy.model_name, policy.version)
        served = None
        if now.name != NONE and (named is None or named.name != now.name):
            served = find_version(self.config.registry_uri, policy.model_name, now.name.rpartition("/")[2])
            if named is None and served is None:
                raise RegistryError(
                    f"the registry holds neither {policy.version!r} nor {now.name}: it is not what it was"
                )
        return {"named": _facts(named), "served": _facts(served), "held off": self._held_off()}


def reached(served: Served) -> Served:
    """What the registry said; raises RegistryError where it could not be asked: no reason to serve nothing."""
    if served.unreachable:
        raise RegistryError(served.reason)
    return served


def _is_same(found: ServedVersion, now: ServedVersion) -> bool:
    digests = [None if version.files is None else version.files.digest for version in (found, now)]
    facts = [(version.name, version.policy.promise, version.note) for version in (found, now)]
    return facts[0] == facts[1] and digests[0] == digests[1]


def _facts(version: RegisteredVersion | None) -> tuple[str, dict[str, str]] | None:
    return None if version is None else (version.name, dict(version.tags))


def follows_registry(config: GraphConfig) -> bool:
    """Whether the version that is served may change while the graph runs."""
    return config.policy.version not in ("none", "builtin") and config.policy.follow_s is not None
