"""The version that takes traffic, numbered: what a switch brings to every replica."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from router_models.errors import ArtifactError, RegistryError
from router_models.versions.registry import MANIFEST_TAG, RegisteredVersion
from router_models.versions.sealed.local_copies import HeldCopy
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.serving_version import Served
from serve_graph.policy.validity import Validity

NONE = "none"
"""What stands for a version where none is served: the last tier answers everything."""


@dataclass(frozen=True, slots=True)
class VersionSource:
    """Where a node that has no copy of a version fetches one from, and what its files must be.

    `copies` is the folder of such copies, at the same path on every node.
    """

    uri: str = field(repr=False)  # it may hold a password
    model: str
    number: str
    run_id: str
    manifest_sha256: str
    copies: str

    @classmethod
    def of(cls, version: RegisteredVersion, copies: Path) -> VersionSource:
        """Where a registered version is fetched from."""
        digest = version.tags.get(MANIFEST_TAG, "")
        return cls(version.uri, version.model, version.number, version.run_id, digest, str(copies))

    def held_copy(self) -> HeldCopy:
        """The copy of this node, fetched and verified where it has none.

        Raises RegistryError where it cannot be fetched, ArtifactError where it is not what was registered.
        """
        tags = {MANIFEST_TAG: self.manifest_sha256}
        version = RegisteredVersion(self.uri, self.model, self.number, self.run_id, tags, ())
        return version.held_folder(Path(self.copies))


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What router and verifier replicas load a version from: its name, its verified folder, how long it holds.

    `digest` is the `loaded_digest` of what the certificate was checked for; None: it is not compared. `folder` is on
    the node where the version was looked up; with a `source` each node has its own copy, else `folder` alone counts.
    """

    name: str
    folder: str
    validity: Validity
    digest: str | None = None
    source: VersionSource | None = None

    def held_copy(self) -> HeldCopy:
        """The files on this node, as `VersionSource.held_copy`."""
        return HeldCopy(Path(self.folder), None) if self.source is None else self.source.held_copy()

    def on_this_node(self) -> Path | None:
        """The folder of the files on this node, fetched where it has none; None where that is not possible now."""
        try:
            return self.held_copy().folder
        except (RegistryError, ArtifactError):
            return None


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """What is served from one switch to the next.

    Parameters
    ----------
    epoch : int
        Grows by one with every switch; a replica takes no epoch that is older than its own.
    policy : ServedPolicy
        What the ingress goes by: thresholds, name, promises.
    files : VersionFiles, optional
        None where no version is served.
    note : str, optional
        Why this, and not what the registry names, is served; None where it is that.
    rollout : ServedRollout, optional
        What is tried beside it; None: nothing is.
    refused : bool
        Whether no version is served because the one that was found may not be.
    """

    epoch: int
    policy: ServedPolicy
    files: VersionFiles | None = None
    note: str | None = None
    rollout: ServedRollout | None = None
    refused: bool = False

    @property
    def name(self) -> str:
        return self.policy.name

    def every_files(self) -> tuple[VersionFiles, ...]:
        """What router and verifier replicas must have loaded: of the version, and of the one that is tried."""
        tried = None if self.rollout is None else self.rollout.candidate.files
        return tuple(files for files in (tried, self.files) if files is not None)

    def serves_as(self, other: ServedVersion) -> bool:
        """Whether it answers as another does, leaving aside what is tried beside it."""
        facts = [(v.name, v.policy.promise, v.note, v.files) for v in (self, other)]
        return facts[0] == facts[1]

    @classmethod
    def of(cls, served: Served, config: GraphConfig, epoch: int = 0, note: str | None = None) -> ServedVersion:
        """What a version, or none, means under a configuration."""
        policy = ServedPolicy.of(served.version, served.name, served.reason, config, served.validity)
        if served.folder is None or served.version is None:
            return cls(epoch, policy, None, note, refused=served.refused)
        digest, source = served.version.loaded_digest, None
        if served.source is not None:
            source = VersionSource.of(served.source, config.state_folder.resolve() / "versions")
        files = VersionFiles(served.name, str(served.folder), served.validity, digest, source)
        return cls(epoch, policy, files, note)


@dataclass(frozen=True, slots=True)
class ServedRollout:
    """What ingress replicas know of a rollout: the candidate, its share of traffic, and the share that is compared.

    `weight` and `rate` lie between 0 and 1; a shadow's weight is 0. `state`: Progressing, Paused or Promoting.
    """

    id: str
    kind: Literal["canary", "shadow"]
    weight: float
    rate: float
    candidate: ServedVersion
    state: str = "Progressing"

    def tries_as(self, other: ServedRollout | None) -> bool:
        """Whether replicas that know the other need not be told of this one."""
        if other is None:
            return False
        facts = [(r.id, r.weight, r.rate, r.state) for r in (self, other)]
        return facts[0] == facts[1] and self.candidate.serves_as(other.candidate)
