"""The version that takes traffic, numbered: what a switch brings to every replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.serving_version import Served
from serve_graph.policy.validity import Validity

NONE = "none"
"""What stands for a version where none is served: the last tier answers everything."""


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What router and verifier replicas load a version from: its name, its verified folder, how long it holds.

    `digest` is the `loaded_digest` of what the certificate was checked for; None: it is not compared.
    """

    name: str
    folder: str
    validity: Validity
    digest: str | None = None


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
    """

    epoch: int
    policy: ServedPolicy
    files: VersionFiles | None = None
    note: str | None = None
    rollout: ServedRollout | None = None

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
            return cls(epoch, policy, None, note)
        files = VersionFiles(served.name, str(served.folder), served.validity, served.version.loaded_digest)
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
