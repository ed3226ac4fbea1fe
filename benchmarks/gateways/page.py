"""The page of the comparison: every figure, and every target with its ratio."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.gateways.contenders import Contender
from benchmarks.gateways.embedding import Embedded
from benchmarks.gateways.turns import Blocks, Kind
from benchmarks.graphs import Usage
from benchmarks.load import median_and_range

DIRECT, LITELLM, RAY, PORTKEY = "upstream, asked directly", "LiteLLM proxy", "ray.serve.llm", "Portkey gateway"
ROUTED, FORCED, HOSTED = "ours, routed", "ours, forced", "ours, hosted"
ONE, SIXTEEN, STREAMS = Kind(1, stream=False), Kind(16, stream=False), Kind(16, stream=True)
LONG = Kind(16, stream=True, long=True)
PACED = Kind(64, stream=True, paced=True)


@dataclass(frozen=True)
class Target:
    """A ratio of one contender's figure to another's, and what it should be at most or at least; None: told alone."""

    what: str
    kind: Kind
    figure: str
    one: str
    other: str
    wanted: float | None
    at_least: bool = False
    less: str | None = None

    def row(self, found: Mapping[Kind, Blocks]) -> str:
        """The page's line."""
        wanted = "" if self.wanted is None else f"{'≥' if self.at_least else '≤'} {self.wanted:g}"
        ratios = found[self.kind].ratios(self.one, self.other, self.figure, self.less) if self.kind in found else []
        if not ratios:
            return f"| {self.what} | {wanted} | not measured |  |"
        middle, reached = statistics.median(ratios), ""
        if self.wanted is not None:
            reached = "yes" if (middle >= self.wanted if self.at_least else middle <= self.wanted) else "no"
        return f"| {self.what} | {wanted} | {median_and_range(ratios, 2)} | {reached} |"


@dataclass(frozen=True)
class Floor:
    """What a target of *routed* would come to if a request took no more than forced and its prompt's embedding."""

    what: str
    kind: Kind
    other: str
    latency: bool = False

    def row(self, found: Mapping[Kind, Blocks], embedding: Mapping[Kind, Embedded]) -> str:
        """The page's line."""
        ratios = list[float]()
        if self.kind in found and self.kind in embedding:
            blocks, took = found[self.kind].of, embedding[self.kind]
            for forced, other, direct in zip(*(blocks.get(n, ()) for n in (FORCED, self.other, DIRECT)), strict=False):
                if self.latency:
                    mine, theirs, none = (1000 * each.load.quantile(0.5) for each in (forced, other, direct))
                    ratios.append((mine + took.together_ms - none) / (theirs - none))
                else:
                    slower = forced.cpu_s / (forced.cpu_s + took.cpu_s)
                    ratios.append(slower * forced.load.per_s / other.load.per_s)
        return f"| {self.what} |  | {median_and_range(ratios, 2) if ratios else 'not measured'} |  |"


TARGETS = (
    Target("routed, one caller: added p50 by LiteLLM's", ONE, "p50", ROUTED, LITELLM, 0.5, less=DIRECT),
    Target("routed, one caller: added p99 by LiteLLM's", ONE, "p99", ROUTED, LITELLM, 0.7, less=DIRECT),
    Target("routed, sixteen callers: requests/s by LiteLLM's", SIXTEEN, "per_s", ROUTED, LITELLM, 4, at_least=True),
    Target("routed, sixteen streams: streams/s by LiteLLM's", STREAMS, "per_s", ROUTED, LITELLM, 6, at_least=True),
    Target("routed, sixteen callers: requests/s by forced", SIXTEEN, "per_s", ROUTED, FORCED, 0.6, at_least=True),
    Target("forced, sixteen callers: requests/s by ray.serve.llm's", SIXTEEN, "per_s", FORCED, RAY, 1, at_least=True),
    Target("forced, sixteen streams: streams/s by ray.serve.llm's", STREAMS, "per_s", FORCED, RAY, 1, at_least=True),
    Target("hosted, sixteen callers: requests/s by Portkey's", SIXTEEN, "per_s", HOSTED, PORTKEY, 0.8, at_least=True),
    Target("forced, 64 streams at 50 chunks/s: p99 between chunks by direct", PACED, "between_p99", FORCED, DIRECT, 2),
    Target("routed, sixteen streams of long questions: streams/s by LiteLLM's", LONG, "per_s", ROUTED, LITELLM, None),
    Target("ray.serve.llm, sixteen callers: requests/s by LiteLLM's", SIXTEEN, "per_s", RAY, LITELLM, None),
    Target("ray.serve.llm, sixteen streams: streams/s by LiteLLM's", STREAMS, "per_s", RAY, LITELLM, None),
    Target("routed, sixteen callers: processor time by LiteLLM's", SIXTEEN, "cpu_s", ROUTED, LITELLM, None),
    Target("ray.serve.llm, sixteen callers: processor time by LiteLLM's", SIXTEEN, "cpu_s", RAY, LITELLM, None),
)
FLOORS = (
    Floor("*forced and embedding alone*, one caller: added p50 by LiteLLM's", ONE, LITELLM, latency=True),
    Floor("*forced and embedding alone*, sixteen callers: requests/s by LiteLLM's", SIXTEEN, LITELLM),
    Floor("*forced and embedding alone*, sixteen streams: streams/s by LiteLLM's", STREAMS, LITELLM),
    Floor("*forced and embedding alone*, sixteen callers: requests/s by forced", SIXTEEN, FORCED),
)
COLUMNS = (
    *("callers", "replies", "gateway", "p50, ms", "p99, ms", "first chunk, ms", "between chunks: p50, ms", "p99, ms"),
    *("requests/s", "processor s of 1,000"),
)
PAGE = """# Beside other gateways

`{command}`, {day}, {machine}; the callers, the upstream and all gateways
share them, so that ratios say more than figures.

The same answers from each: our echo engine, which takes no time, over HTTP (*upstream*), or in the graph (*ours,
routed* and *forced*, *ray.serve.llm*). *Ours, routed*: `model: auto` by a certified version (linear router,
combined verifier; both in the ingress), most accepted at the cheap tier, the others by the last tier, as said;
*forced*: `model: cheap`; *hosted*: the same graph's last tier, which is the upstream. Questions are short, but where
they are called long (some 56 word pieces). Streams have fifty chunks; *paced* ones come as of an engine of 50 tokens a
second. {versions}.
Blocks of {seconds:g} seconds go to
each in turn, {blocks} of each: medians, in brackets the least and the most of a block. Processor seconds are those
of the gateway's own processes, Ray's included, without the upstream.

## Targets

Ratios of blocks made next to each other. *Added*: less what the upstream itself takes.

| what | wanted | ratio | reached |
|---|---|---|---|
{targets}

What routes embeds each prompt once, the long ones' parts besides, up to four times their own pieces ([decision
0100](../../decisions/capacity/0100-products-of-integers-in-the-encoder.md)). Embedding each question and no parts, a
process for each processor, as many together as there are callers, took {embedding}. *Forced and
embedding alone*: what *routed* would come to if it took nothing else: forced, slower by that share of processor
time, or later by that time. `ray.serve.llm` neither routes, nor keys, bills or records.

## Figures

{head}
{rows}

## Memory, and what goes on unasked

Resident megabytes of all processes after the last block (shared pages counted in each), and of which process most;
what all use of a core before the first block, while nobody asks, which is beside every other one's figures.

| gateway | MB | of a core | processes |
|---|---|---|---|
{memory}
"""


def memory_row(name: str, usage: Mapping[str, Usage], idle: float) -> str:
    """What the processes of a gateway hold, the five largest kinds named, and what they use of a core unasked."""
    held = sorted(((each.resident / 2**20, kind) for kind, each in usage.items()), reverse=True)
    largest = ", ".join(f"{kind} {mb:,.0f}" for mb, kind in held[:5])
    return f"| {name} | {sum(mb for mb, _ in held):,.0f} | {idle:.0%} | {largest} |"


def page_of(
    contenders: Sequence[Contender],
    found: Sequence[Blocks],
    memory: Mapping[str, Mapping[str, Usage]],
    idle: Mapping[str, float],
    embedding: Mapping[Kind, Embedded],
    **said: object,
) -> str:
    """The page; `said`: command, day, machine, versions, seconds and blocks."""
    by_kind = {blocks.kind: blocks for blocks in found}
    return PAGE.format(
        head=f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}",
        targets="\n".join(
            [*(target.row(by_kind) for target in TARGETS), *(floor.row(by_kind, embedding) for floor in FLOORS)]
        ),
        embedding=", ".join(
            f"{took.cpu_s:.1f} ms of processor a question ({kind.callers} at once, {kind.replies})"
            for kind, took in embedding.items()
        ),
        rows="\n".join(blocks.row(each.name) for blocks in found for each in contenders),
        memory="\n".join(memory_row(name, usage, idle[name]) for name, usage in memory.items()),
        **said,
    )
