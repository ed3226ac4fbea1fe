"""`serve_graph_*` metrics in Prometheus' text format. Labels are tier, outcome, version; never text or users."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from router_models.types import DecisionRecord

DISTANCE_EDGES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Upper edges of the distance histogram: 0 = typical of the training data, from 1 on unlike it."""


@dataclass(slots=True)
class Tally:
    """Running totals of one ingress replica, fed with every record it writes."""

    requests: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    cost_usd: dict[str, Decimal] = field(default_factory=dict)
    distances: Counter[tuple[str, float]] = field(default_factory=Counter)
    distance_sum: dict[str, float] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    spilled: Counter[str] = field(default_factory=Counter)
    unmetered: Counter[tuple[str, str]] = field(default_factory=Counter)
    unrecorded: int = 0

    def add(self, record: DecisionRecord) -> None:
        self.requests[(record.tier, record.outcome, record.version, record.status)] += 1
        if record.distance is not None and math.isfinite(record.distance):
            edge = next((edge for edge in DISTANCE_EDGES if record.distance <= edge), math.inf)
            self.distances[(record.version, edge)] += 1
            self.distance_sum[record.version] = self.distance_sum.get(record.version, 0.0) + record.distance
        self.spilled[record.tier] += "spilled" in record.evidence
        for call in record.calls:
            self.calls[call.tier] += 1
            self.tokens[(call.tier, "prompt")] += call.usage.prompt_tokens
            self.tokens[(call.tier, "completion")] += call.usage.completion_tokens
        for line in record.bill:
            self.cost_usd[line.tier] = self.cost_usd.get(line.tier, Decimal(0)) + line.cost_usd
            self.unmetered[(line.tier, line.what)] += not line.metered


def render_metrics(
    tally: Tally,
    spooled: int,
    engines: Mapping[str, Mapping[str, float]],
    escalation_caps: int = 0,
    *,
    held: int = 0,
    lost: int = 0,
    certificates: Mapping[str, float | None] = MappingProxyType({}),
) -> str:
    """Prometheus text: the tally, the records on their way, and each tier's engine counters (`serve_graph_engine_*`).

    `spooled`: records the store does not hold yet, `held` of them in memory only; `lost` fitted nowhere.
    `certificates`: the seconds that each still holds, 0 = it is void, None = no end is known.
    """
    lines = ["# TYPE serve_graph_requests_total counter"]
    for (tier, outcome, version, status), n in sorted(tally.requests.items()):
        labels = f'tier="{tier}",outcome="{outcome}",version="{_escaped(version)}",status="{status}"'
        lines.append(f"serve_graph_requests_total{{{labels}}} {n}")
    lines.append("# TYPE serve_graph_engine_calls_total counter")
    lines += [f'serve_graph_engine_calls_total{{tier="{tier}"}} {n}' for tier, n in sorted(tally.calls.items())]
    lines.append("# TYPE serve_graph_tokens_total counter")
    for (tier, kind), n in sorted(tally.tokens.items()):
        lines.append(f'serve_graph_tokens_total{{tier="{tier}",kind="{kind}"}} {n}')
    lines.append("# TYPE serve_graph_cost_usd_total counter")
    lines += [f'serve_graph_cost_usd_total{{tier="{tier}"}} {usd}' for tier, usd in sorted(tally.cost_usd.items())]
    lines.append("# TYPE serve_graph_unmetered_calls_total counter")
    for (tier, what), n in sorted(tally.unmetered.items()):
        lines += [f'serve_graph_unmetered_calls_total{{tier="{tier}",what="{what}"}} {n}'] * (n > 0)
    lines += _distance_lines(tally)
    lines.append("# TYPE serve_graph_records_spooled gauge")
    lines.append(f"serve_graph_records_spooled {spooled}")
    lines.append("# TYPE serve_graph_records_held gauge")
    lines.append(f"serve_graph_records_held {held}")
    lines.append("# TYPE serve_graph_records_lost_total counter")
    lines.append(f"serve_graph_records_lost_total {lost + tally.unrecorded}")
    lines.append("# TYPE serve_graph_refused_total counter")
    lines += [f'serve_graph_refused_total{{code="{code}"}} {n}' for code, n in sorted(tally.refused.items())]
    lines.append("# TYPE serve_graph_spilled_total counter")
    lines += [f'serve_graph_spilled_total{{tier="{tier}"}} {n}' for tier, n in sorted(tally.spilled.items()) if n]
    lines.append("# TYPE serve_graph_escalation_caps_total counter")
    lines.append(f"serve_graph_escalation_caps_total {escalation_caps}")
    lines += _certificate_lines(certificates)
    for tier, counters in sorted(engines.items()):
        for name, value in sorted(counters.items()):
            base, _, position = name.partition("[")
            metric = "serve_graph_engine_" + re.sub(r"[^a-zA-Z0-9_]", "_", base.removeprefix("vllm:"))
            extra = f',position="{position.rstrip("]")}"' if position else ""
            lines.append(f'{metric}{{tier="{tier}"{extra}}} {value!r}')
    return "\n".join(lines) + "\n"


def _distance_lines(tally: Tally) -> list[str]:
    """How far from the training data the routed prompts lay, as a histogram: a sign of drift that needs no labels."""
    lines = ["# TYPE serve_graph_prompt_distance histogram"]
    for version, total in sorted(tally.distance_sum.items()):
        name, count = _escaped(version), 0
        for edge in (*DISTANCE_EDGES, math.inf):
            count += tally.distances[(version, edge)]
            le = "+Inf" if math.isinf(edge) else f"{edge:g}"
            lines.append(f'serve_graph_prompt_distance_bucket{{version="{name}",le="{le}"}} {count}')
        lines.append(f'serve_graph_prompt_distance_sum{{version="{name}"}} {total!r}')
        lines.append(f'serve_graph_prompt_distance_count{{version="{name}"}} {count}')
    return lines


def _certificate_lines(certificates: Mapping[str, float | None]) -> list[str]:
    """Whether each certificate holds, and for how long where its end is known: to be warned before it ends."""
    lines = ["# TYPE serve_graph_certificate_valid gauge"]
    names = sorted(certificates)
    lines += [
        f'serve_graph_certificate_valid{{certificate="{name}"}} {int(certificates[name] != 0)}' for name in names
    ]
    lines.append("# TYPE serve_graph_certificate_seconds_left gauge")
    for name in names:
        left = certificates[name]
        if left is not None:
            lines.append(f'serve_graph_certificate_seconds_left{{certificate="{name}"}} {left!r}')
    return lines


def _escaped(label: str) -> str:
    """A label value as the text format wants it."""
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
