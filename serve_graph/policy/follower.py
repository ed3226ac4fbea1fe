"""What the registry wants served, looked up again and again: an alias that moved, a review that was withdrawn."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from router_models.errors import ArtifactError, RegistryError
from router_models.versions.registry import RegisteredVersion, find_version
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_version import NONE, ServedVersion
from serve_graph.policy.serving_version import Served, serving_version

logger = logging.getLogger(__name__)


class RegistryFollower:
    """Compare what the registry names with what is served.

    A version that may not be served never takes the place of one that may: the one served stays, and it is said why.
    Where that one may not be served any more either (rejected, for instance), none is.
    """

    def __init__(self, config: GraphConfig) -> None:
        self.config = config
        self._seen: Mapping[str, object] | None = None
        self._said: str | None = None

    def look(self, now: ServedVersion) -> ServedVersion | None:
        """What is to be served instead of `now`; None where that is to stay, as it does while the registry is down.

        The registry is asked for the version's tags alone; files are read where something changed.
        """
        try:
            seen = self._names(now)
            if seen == self._seen:
                return None
            found = self._chosen(now)
        except (RegistryError, ArtifactError) as error:
            if str(error) != self._said:
                self._said = str(error)
                logger.warning("%s stays served: %s", now.name, error)
            return None
        self._seen, self._said = seen, None
        same = found.name == now.name and found.policy.promise == now.policy.promise and found.note == now.note
        return None if same else found

    def forget(self) -> None:
        """Look again at what was seen last: it could not be served."""
        self._seen = None

    def resolve(self, name: str) -> Served:
        """A version by its name, as `serving_version` finds what may be served."""
        if name == NONE:
            return Served(None, None, "no version was served")
        number = name.rpartition("/")[2]
        policy = self.config.policy.model_copy(update={"version": number})
        return serving_version(self.config.model_copy(update={"policy": policy}))

    def _chosen(self, now: ServedVersion) -> ServedVersion:
        wanted = reached(serving_version(self.config))
        if wanted.version is not None or now.name == NONE:
            return ServedVersion.of(wanted, self.config)
        kept = reached(self.resolve(now.name))
        if kept.version is None:
            return ServedVersion.of(wanted, self.config)
        note = f"{now.name} stays served, for what the registry names is not: {wanted.reason}"
        return ServedVersion.of(kept, self.config, note=note)

    def _names(self, now: ServedVersion) -> dict[str, object]:
        policy = self.config.policy
        named = find_version(self.config.registry_uri, policy.model_name, policy.version)
        served = None
        if now.name != NONE and (named is None or named.name != now.name):
            served = find_version(self.config.registry_uri, policy.model_name, now.name.rpartition("/")[2])
        return {"named": _facts(named), "served": _facts(served)}


def reached(served: Served) -> Served:
    """What the registry said; raises RegistryError where it could not be asked: no reason to serve nothing."""
    if served.unreachable:
        raise RegistryError(served.reason)
    return served


def _facts(version: RegisteredVersion | None) -> tuple[str, dict[str, str]] | None:
    return None if version is None else (version.name, dict(version.tags))


def follows_registry(config: GraphConfig) -> bool:
    """Whether the version that is served may change while the graph runs."""
    return config.policy.version not in ("none", "builtin") and config.policy.follow_s is not None
