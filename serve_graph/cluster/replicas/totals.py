"""Counters of several replicas added up: each replica once, what gone ones counted included. Pure; no Ray.

A snapshot is everything one ingress replica shows; counters of one that is gone stay as they were last seen, so that a
sum never goes back. Those of replicas that have been gone for long are folded into one sum, with their names. Gauges
are of now: of living replicas, and of the one that is asked where a sum means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from prometheus_client.metrics_core import Metric

from serve_graph.records.engine_metrics import is_count

Labels = tuple[tuple[str, str], ...]
COUNTED = frozenset({"counter", "histogram", "unknown"})
"""Kinds of metrics that only grow; `unknown` are the counters without `_total` in their names."""
ADDED_GAUGES = frozenset(
    {
        "serve_graph_records_spooled",
        "serve_graph_records_held",
        "serve_graph_judge_waiting",
        "serve_graph_comparisons_waiting",
        "serve_graph_engine_in_flight",
        "serve_graph_engine_queued",
    }
)
"""Gauges of ingress replicas whose sum is the graph's; of others each replica knows the whole."""


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
    """What one ingress replica shows; `number` grows with each."""

    number: int
    families: tuple[FamilySnapshot, ...]


@dataclass(frozen=True, slots=True)
class FoldedReplicas:
    """What replicas that are gone have counted, in one sum, and which they were."""

    names: frozenset[str] = frozenset()
    families: tuple[FamilySnapshot, ...] = ()

    def with_more(self, gone: Mapping[str, ReplicaSnapshot]) -> FoldedReplicas:
        """The same with further replicas, which are counted from now on in the sum alone."""
        added = [gone[name].families for name in sorted(gone)]
        return FoldedReplicas(self.names | gone.keys(), _added([self.families, *added]))


@dataclass(slots=True)
class Totals:
    """The last that is known of every ingress replica, by its name, and of every tier's, by tier and name.

    `folded`: those that have been gone for long.
    """

    ingress: dict[str, ReplicaSnapshot] = field(default_factory=dict)
    engines: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    folded: FoldedReplicas = field(default_factory=FoldedReplicas)

    def fold(self, gone: Iterable[str]) -> dict[str, ReplicaSnapshot]:
        """Put replicas that are gone into the sum; returns what they were, for `merge` to reconcile sums."""
        taken = {name: self.ingress.pop(name) for name in gone if name in self.ingress}
        if taken:
            self.folded = self.folded.with_more(taken)
        return taken

    def merge(self, other: Totals, taken: Mapping[str, ReplicaSnapshot] | None = None) -> None:
        """Take what is newer in another's; in whatever order, and however often, the result is the same.

        Of two sums that of more replicas stands. Where the other had some that it lacks, they are added again from
        `taken`: what was folded here lately.
        """
        known_to_all = sorted((self.folded, other.folded), key=lambda one: (len(one.names), sorted(one.names)))
        fewer, more = known_to_all
        at_hand = {**self.ingress, **other.ingress, **(taken or {})}
        lacking = {name: at_hand[name] for name in fewer.names - more.names if name in at_hand}
        self.folded = more.with_more(lacking) if lacking else more
        for name in self.folded.names & self.ingress.keys():
            del self.ingress[name]
        for name, snapshot in other.ingress.items():
            if name in self.folded.names:
                continue
            known = self.ingress.get(name)
            if known is None or known.number < snapshot.number:
                self.ingress[name] = snapshot
        for replica, counters in other.engines.items():
            self.note_engine(replica, counters)

    def note_engine(self, replica: tuple[str, str], counters: Mapping[str, float]) -> None:
        """Take a tier replica's counters, which only grow, and its gauges."""
        known = self.engines.setdefault(replica, {})
        for name, value in counters.items():
            known[name] = max(known.get(name, value), value) if is_count(name) else value


def sum_of_ingress(totals: Totals, asked: str, living: Iterable[str]) -> list[Metric]:
    """Add up what ingress replicas show; `asked` is the one that shows it, `living` those that answered just now."""
    alive = {*living, asked}
    shown: dict[str, FamilySnapshot] = {}
    values: dict[str, dict[tuple[str, Labels], float]] = {}
    each = {name: totals.ingress[name].families for name in [asked, *sorted(totals.ingress.keys() - {asked})]}
    for name, families in {**each, "": totals.folded.families}.items():
        for family in families:
            shown.setdefault(family.name, family)
            found = values.setdefault(family.name, {})
            adds = family.kind in COUNTED or (family.name in ADDED_GAUGES and name in alive)
            if not adds and name != asked:
                continue
            for sample, labels, value in family.samples:
                found[sample, labels] = found.get((sample, labels), 0.0) + value
    return [_metric(family, values[name]) for name, family in shown.items()]


def counted_since(before: tuple[FamilySnapshot, ...], now: tuple[FamilySnapshot, ...]) -> tuple[FamilySnapshot, ...]:
    """What was counted since a moment; gauges are as they are now."""
    counted = {(one.name, sample[:2]): sample[2] for one in before if one.kind in COUNTED for sample in one.samples}
    return tuple(
        replace(one, samples=tuple((*s[:2], s[2] - counted.get((one.name, s[:2]), 0.0)) for s in one.samples))
        for one in now
    )


def _added(parts: Iterable[tuple[FamilySnapshot, ...]]) -> tuple[FamilySnapshot, ...]:
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


def sum_of_engines(totals: Totals, living: Iterable[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Add up each tier's replicas: counters of all there were, gauges of the living.

    Numbers of requests (`num_…`) are added; of shares and states the highest counts.
    """
    alive, found = frozenset(living), dict[str, dict[str, float]]()
    for (tier, replica), counters in totals.engines.items():
        of_tier = found.setdefault(tier, {})
        for name, value in counters.items():
            if is_count(name):
                of_tier[name] = of_tier.get(name, 0.0) + value
            elif (tier, replica) in alive:
                before = of_tier.get(name, 0.0)
                of_tier[name] = before + value if _is_number_of(name) else max(before, value)
    return found


def _is_number_of(name: str) -> bool:
    return name.removeprefix("vllm:").startswith("num_")


def _metric(family: FamilySnapshot, values: Mapping[tuple[str, Labels], float]) -> Metric:
    metric = Metric(family.name, family.text, family.kind)
    for (sample, labels), value in _in_order(family, values):
        metric.add_sample(sample, dict(labels), value)
    return metric


def _in_order(
    family: FamilySnapshot, values: Mapping[tuple[str, Labels], float]
) -> Iterable[tuple[tuple[str, Labels], float]]:
    """Samples by their labels; a histogram's buckets stay together, in the order of their edges."""
    if family.kind != "histogram":
        return sorted(values.items())

    def place(sample: tuple[tuple[str, Labels], float]) -> tuple[Labels, int, float]:
        name, labels = sample[0]
        edge = dict(labels).get("le", "0")
        rest = tuple(label for label in labels if label[0] != "le")
        return rest, 0 if name.endswith("_bucket") else 1, float(edge)

    return sorted(values.items(), key=place)
