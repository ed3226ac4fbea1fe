"""The candidate of a rollout as the registry has it: served like any version, or, as a shadow, without approval."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from router_models.errors import ArtifactError, CertificateError, RegistryError
from router_models.versions.registry import RegisteredVersion, find_version
from router_models.versions.review import review_state
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import check_certificate
from serve_graph.policy.follower import reached
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import Served, serving_version
from serve_graph.policy.validity import validity_of


class CandidateLookup:
    """Looks a candidate up again and again; its files are read only where something about it has changed."""

    def __init__(self, config: GraphConfig, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.config = config
        self.now = now
        self._seen: tuple[str, dict[str, str]] | None = None
        self._found: ServedVersion | None = None

    def look(self, rollout: Rollout) -> ServedVersion | str:
        """The candidate, or why it may be tried no longer.

        Raises RegistryError where the registry cannot be asked, or holds neither of the two versions.
        """
        config = self.config
        found = find_version(config.registry_uri, rollout.model, rollout.candidate.rpartition("/")[2])
        if found is None:
            if find_version(config.registry_uri, rollout.model, rollout.stable.rpartition("/")[2]) is None:
                raise RegistryError("the registry holds neither version of the rollout: it is not what it was")
            return f"the registry holds no {rollout.candidate} any more"
        seen = (rollout.id, dict(found.tags))
        if self._found is None or seen != self._seen:
            served = candidate_version(config, found, rollout.kind == "shadow")
            if served.version is None:
                return served.reason
            self._seen, self._found = seen, ServedVersion.of(served, config)
        return self._found.policy.validity.whole.fault(self.now()) or self._found


def candidate_version(config: GraphConfig, found: RegisteredVersion, is_shadow: bool = False) -> Served:
    """What a graph would make of a version that it tries, as `serving_version` of the one that it serves.

    A shadow answers nobody: nobody needs to have approved it, but one that was rejected is not tried either, and a
    certificate for these tiers it must have. Raises RegistryError where the registry cannot be asked.
    """
    if not is_shadow:
        policy = config.policy.model_copy(update={"version": found.number})
        try:
            return reached(serving_version(config.model_copy(update={"policy": policy})))
        except ArtifactError as error:
            return Served(None, None, str(error), refused=True)
    if review_state(found).state == "rejected":
        return Served(None, None, f"{found.name} is rejected", refused=True)
    try:
        folder = found.folder(config.state_folder.resolve() / "versions")
        version = RouterVersion.load(folder, found.name)
        check_certificate(version, config, datetime.now(UTC))
    except (ArtifactError, CertificateError) as error:
        return Served(None, None, str(error), refused=True)
    assert version.certificate is not None
    promise = version.certificate.summary()
    return Served(version, folder, promise, validity_of(version, config), source=found)
