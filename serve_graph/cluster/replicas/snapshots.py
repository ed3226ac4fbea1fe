"""What replicas show at a moment, and the sum of those that are gone. Pure; no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from prometheus_client.metrics_core import Metric

Labels = tuple[tuple[str, str], ...]
COUNTED = frozenset({"counter", "histogram", "unknown"})
"""Kinds of metrics that only grow; `unknown` are the counters without `_total` in their names."""
MOST_NAMES = 4_096
"""Names of folded replicas that are kept: of older ones the counts alone are, which nobody tells any more."""


@dataclass(frozen=True, slots=True)
class FamilySnapshot:
    """A metric with its samples: name, labels, value."""

    name: str
    text: str
    kind: str
    samples: tuple[tuple[str, Labels, float], ...]

    @classmethod
    def of(cls, metric: Metric) -> FamilySnapshot:
        """What a metric shows now."""
        samples = tuple((s.name, tuple(sorted(s.labels.items())), float(s.value)) for s in metric.samples)
        return cls(metric.name, metric.documentation, metric.type, samples)


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """What one replica shows; `number` grows with each."""

    number: int
    families: tuple[FamilySnapshot, ...]


@dataclass(frozen=True, slots=True)
class FoldedReplicas:
    """What replicas that are gone have counted, in one sum.

    `names`: the last of them, oldest first; `count`: how many there were.
    """

    names: tuple[str, ...] = ()
    families: tuple[FamilySnapshot, ...] = ()
    count: int = 0

    def with_more(self, gone: Mapping[str, tuple[FamilySnapshot, ...]]) -> FoldedReplicas:
        """The same with further replicas, which are counted from now on in the sum alone."""
        new = sorted(gone.keys() - set(self.names))
        families = added([self.families, *(gone[name] for name in new)])
        return FoldedReplicas((*self.names, *new)[-MOST_NAMES:], families, self.count + len(new))

    def merged(self, other: FoldedReplicas, at_hand: Mapping[str, tuple[FamilySnapshot, ...]]) -> FoldedReplicas:
        """Of two sums that of more replicas; those that it lacks are added again where they are at hand."""
        fewer, more = sorted((self, other), key=lambda one: (one.count, sorted(one.names)))
        lacking = {name: at_hand[name] for name in set(fewer.names) - set(more.names) if name in at_hand}
        return more.with_more(lacking) if lacking else more


def counted_since(before: tuple[FamilySnapshot, ...], now: tuple[FamilySnapshot, ...]) -> tuple[FamilySnapshot, ...]:
    """What was counted since a moment; gauges are as they are now."""
    counted = {(one.name, sample[:2]): sample[2] for one in before if one.kind in COUNTED for sample in one.samples}
    return tuple(
        replace(one, samples=tuple((*s[:2], s[2] - counted.get((one.name, s[:2]), 0.0)) for s in one.samples))
        for one in now
    )


def added(parts: Iterable[tuple[FamilySnapshot, ...]]) -> tuple[FamilySnapshot, ...]:
    """What several have counted, added up; gauges are of now, and so of nobody who is gone."""
    shown: dict[str, FamilySnapshot] = {}
    values: dict[str, dict[tuple[str, Labels], float]] = {}
    for families in parts:
        for family in families:
            if family.kind not in COUNTED:
                continue
            shown.setdefault(family.name, family)
            found = values.setdefault(family.name, {})
            for sample, labels, value in family.samples:
                found[sample, labels] = found.get((sample, labels), 0.0) + value
    return tuple(
        FamilySnapshot(name, one.text, one.kind, tuple((*sample, value) for sample, value in values[name].items()))
        for name, one in shown.items()
    )
