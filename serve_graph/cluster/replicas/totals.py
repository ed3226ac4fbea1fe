"""Counters of several replicas added up: each replica once, what gone ones counted included. Pure; no Ray.

A snapshot is everything one ingress replica shows; counters of one that is gone stay as they were last seen, so that a
sum never goes back. Those of replicas that have been gone for long are folded into one sum, with their names. Gauges
are of now: of living replicas, and of the one that is asked where a sum means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric

from serve_graph.cluster.replicas.snapshots import COUNTED, FamilySnapshot, FoldedReplicas, Labels, ReplicaSnapshot
from serve_graph.engines.telemetry.engine_metrics import is_count

ADDED_GAUGES = frozenset(
    {
        "serve_graph_records_spooled",
        "serve_graph_records_held",
        "serve_graph_judge_waiting",
        "serve_graph_comparisons_waiting",
        "serve_graph_batch_lines_under_way",
        "serve_graph_batch_places",
        "serve_graph_batches_held",
        "serve_graph_engine_in_flight",
        "serve_graph_engine_queued",
    }
)
"""Gauges of ingress replicas whose sum is the graph's; of others each replica knows the whole."""
HIGHEST_GAUGES = frozenset({"serve_graph_records_waiting_seconds"})
"""Gauges of which the highest of any living replica is the graph's."""


EngineReplica = tuple[str, str]
"""A tier, and the name of one of its replicas."""


@dataclass(slots=True)
class Totals:
    """The last that is known of every ingress replica, by its name, and of every tier's, by tier and name.

    `folded`, `folded_engines`: those that have been gone for long.
    """

    ingress: dict[str, ReplicaSnapshot] = field(default_factory=dict)
    engines: dict[EngineReplica, dict[str, float]] = field(default_factory=dict)
    folded: FoldedReplicas = field(default_factory=FoldedReplicas)
    folded_engines: FoldedReplicas = field(default_factory=FoldedReplicas)

    def fold(self, gone: Iterable[str]) -> dict[str, ReplicaSnapshot]:
        """Put replicas that are gone into the sum; returns what they were, for `merge` to reconcile sums."""
        taken = {name: self.ingress.pop(name) for name in gone if name in self.ingress}
        if taken:
            self.folded = self.folded.with_more({name: one.families for name, one in taken.items()})
        return taken

    def fold_engines(self, gone: Iterable[EngineReplica]) -> dict[EngineReplica, dict[str, float]]:
        """The same with replicas of tiers."""
        taken = {replica: self.engines.pop(replica) for replica in gone if replica in self.engines}
        if taken:
            self.folded_engines = self.folded_engines.with_more(_engine_families(taken))
        return taken

    def merge(
        self,
        other: Totals,
        taken: Mapping[str, ReplicaSnapshot] | None = None,
        taken_engines: Mapping[EngineReplica, dict[str, float]] | None = None,
    ) -> None:
        """Take what is newer in another's; in whatever order, and however often, the result is the same.

        Of two sums that of more replicas stands. Where the other had some that it lacks, they are added again from
        `taken` and `taken_engines`: what was folded here lately.
        """
        at_hand = {**self.ingress, **other.ingress, **(taken or {})}
        self.folded = self.folded.merged(other.folded, {name: one.families for name, one in at_hand.items()})
        for name in self.ingress.keys() & set(self.folded.names):
            del self.ingress[name]
        for name, snapshot in other.ingress.items():
            known = self.ingress.get(name)
            if name not in self.folded.names and (known is None or known.number < snapshot.number):
                self.ingress[name] = snapshot
        engines = {**self.engines, **other.engines, **(taken_engines or {})}
        self.folded_engines = self.folded_engines.merged(other.folded_engines, _engine_families(engines))
        for replica, counters in other.engines.items():
            self.note_engine(replica, counters)
        gone = set(self.folded_engines.names)
        for replica in [replica for replica in self.engines if replica[1] in gone]:
            del self.engines[replica]

    def note_engine(self, replica: EngineReplica, counters: Mapping[str, float]) -> None:
        """Take a tier replica's counters, which only grow, and its gauges."""
        known = self.engines.setdefault(replica, {})
        for name, value in counters.items():
            known[name] = max(known.get(name, value), value) if is_count(name) else value


def _engine_families(
    engines: Mapping[EngineReplica, Mapping[str, float]],
) -> dict[str, tuple[FamilySnapshot, ...]]:
    """The counters of tiers' replicas by replica, each a family called as its tier."""
    return {
        name: (FamilySnapshot(tier, "", "counter", tuple((c, (), v) for c, v in counters.items() if is_count(c))),)
        for (tier, name), counters in engines.items()
    }


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
            highest = family.name in HIGHEST_GAUGES and name in alive
            adds = family.kind in COUNTED or (family.name in ADDED_GAUGES and name in alive)
            if not (adds or highest) and name != asked:
                continue
            for sample, labels, value in family.samples:
                known = found.get((sample, labels), 0.0)
                found[sample, labels] = max(known, value) if highest else known + value
    return [_metric(family, values[name]) for name, family in shown.items()]


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
    for family in totals.folded_engines.families:
        of_tier = found.setdefault(family.name, {})
        for name, _, value in family.samples:
            of_tier[name] = of_tier.get(name, 0.0) + value
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
