"""Render what numbers of requests a day need as a page in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from router_models.planning.simulation.replicas.run import ReplicaRun
from router_models.planning.simulation.sizing.inputs import SizedTier, SizingFile
from router_models.planning.simulation.sizing.needs import Needs
from router_models.reports.markdown import table


def sizing_page(given: SizingFile, found: Sequence[tuple[Needs, ReplicaRun | None]], head: str) -> str:
    """Return the page.

    Parameters
    ----------
    given : SizingFile
        What it was worked out from.
    found : sequence of tuple of Needs and ReplicaRun or None
        By requests a day; and what the simulator says of them.
    head : str
        Command, date and machine.

    Returns
    -------
    str
    """
    traffic, gateway, store = given.traffic, given.gateway, given.store
    parts = [
        f"# What {', '.join(amount(needs.per_day) for needs, _ in found)} requests a day need\n",
        head + "\n",
        "## Needed\n",
        table(_needed(given, [needs for needs, _ in found])),
        f"""
*Busiest*: in a burst at the busiest time of the day. Replicas: calls at once on average at the busiest (Little's law),
with at most {given.busy_share:.0%} of their places taken. *Fixed*: so many all day; *by the hour*: as many as each
hour's mean needs at {_targets(given)} of their places; bursts within an hour are not in it. Cores: processor time of
requests at the busiest, with at most {gateway.busy_share:.0%} of them taken; a replica of ingress, router or verifier
uses one at most.
""",
        "## Assumed\n",
        table(_assumed(given)),
        f"""
A day's rate goes {traffic.daily_swing:.0%} up and down around its mean; bursts of {traffic.burst_factor:g} times the
rate last {traffic.burst_s:g} s on average, {traffic.calm_s:g} s apart. Processor time: ingress
{gateway.ingress_cpu_ms:g} ms a request, router {gateway.router_cpu_ms:g} a decision, verifier
{gateway.verifier_cpu_ms:g} a verdict, everything beside {gateway.beside_cpu_ms:g} a request. A record has
{store.bytes_per_record:,.0f} bytes with its indexes and is kept {store.keep_days:g} days. That an engine slows down as
its batch fills is not modelled: its rates are those of one call in the batch that is planned for.
""",
    ]
    runs = [(needs, run) for needs, run in found if run is not None]
    if runs:
        parts += [
            "## Simulated\n",
            table(_simulated(given, runs)),
            f"""
Around the busiest time of a day (the whole day where it has fewer requests). Replicas scale between their least and
what is needed at the busiest. Late: over {given.late_s:g} s. Replicas: on average, and at most. Wait: the 99th
percentile of calls in front of a tier.
""",
        ]
    return "\n".join(parts)


def amount(number: float) -> str:
    """Return a number of requests in few characters: 10k, 1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"


def _needed(given: SizingFile, needs: Sequence[Needs]) -> list[list[str]]:
    rows = [["", *(f"{amount(each.per_day)} a day" for each in needs)]]
    rows.append(
        ["requests a second, mean / busiest", *(f"{n.mean_per_s:,.3g} / {n.busiest_per_s:,.3g}" for n in needs)]
    )
    for i, tier in enumerate(given.tiers):
        each = [n.tiers[i] for n in needs]
        rows.append([f"{tier.name}: calls at once at the busiest", *(f"{t.at_once:,.1f}" for t in each)])
        if tier.replicas is not None:
            rows.append([f"{tier.name}: replicas of {tier.replicas.places}", *(f"{t.replicas:,}" for t in each)])
            rows.append(
                [
                    f"{tier.name}: $ a day, fixed / by the hour",
                    *(f"{t.usd_fixed:,.0f} / {t.usd_scaled:,.0f}" for t in each),
                ]
            )
        else:
            rows.append([f"{tier.name}: tokens, $ a day", *(f"{t.usd_fixed:,.0f}" for t in each)])
    rows.append(["ingress replicas (cores)", *(f"{n.gateway.ingress:,}" for n in needs)])
    rows.append(["router / verifier replicas", *(f"{n.gateway.router:,} / {n.gateway.verifier:,}" for n in needs)])
    rows.append(["cores of proxies, controllers, tiers' own", *(f"{n.gateway.beside:,}" for n in needs)])
    rows.append(["gateway, $ a day", *(f"{n.gateway.usd:,.2f}" for n in needs)])
    rows.append(["store: rows a second at the busiest", *(f"{n.store.rows_per_s:,.3g}" for n in needs)])
    rows.append(["store: GB a day / kept", *(f"{n.store.gb_per_day:,.3g} / {n.store.gb_kept:,.3g}" for n in needs)])
    rows.append(
        ["store: cores, SQLite (its one writer) / PostgreSQL",
         *(f"{n.store.sqlite_cores:,.2g} / {n.store.postgresql_cores:,.2g}" for n in needs)]
    )  # fmt: skip
    rows.append(["store, $ a day", *(f"{n.store.usd:,.2f}" for n in needs)])
    rows.append(["**$ a day, fixed / by the hour**", *(f"{n.usd_fixed:,.0f} / {n.usd_scaled:,.0f}" for n in needs)])
    rows.append(["$ per 1,000 requests, by the hour", *(f"{1000 * n.usd_scaled / n.per_day:,.3g}" for n in needs)])
    return rows


def _assumed(given: SizingFile) -> list[list[str]]:
    head = [
        "tier",
        "first",
        "sent on",
        "tokens in / out",
        "prefill / decode a call, tokens/s",
        "cached",
        "speculation",
    ]
    rows = [[*head, "a replica"]]
    for tier in given.tiers:
        engine, drafts, own = tier.engine, tier.engine.speculation, tier.replicas
        rows.append(
            [
                tier.name,
                f"{tier.first:.0%}",
                f"{tier.sent_on:.0%}",
                f"{tier.tokens.prompt:g} / {tier.tokens.answer:g}",
                f"{engine.prefill_tokens_per_s:g} / {engine.decode_tokens_per_s:g}",
                f"{engine.prefix_cached:.0%}",
                "–" if drafts is None else f"{drafts.draft_tokens} at {drafts.acceptance:.0%}: {_speedup(tier):.2f} ×",
                "hosted"
                if own is None
                else f"{own.places} places, ${own.usd_per_hour:g}/h, starts in {own.start_s:g} s",
            ]
        )
    return rows


def _speedup(tier: SizedTier) -> float:
    speculation = tier.engine.speed().speculation
    return 1.0 if speculation is None else speculation.speedup


def _targets(given: SizingFile) -> str:
    shares = sorted({tier.replicas.target_share for tier in given.tiers if tier.replicas is not None})
    return " or ".join(f"{share:.0%}" for share in shares) or "all"


def _simulated(given: SizingFile, runs: Sequence[tuple[Needs, ReplicaRun]]) -> list[list[str]]:
    names = [tier.name for tier in given.tiers if tier.replicas is not None]
    head = ["requests a day", "simulated", "over, s", "p50, s", "p95, s", "p99, s", "late"]
    rows = [[*head, *(f"{name}: replicas, wait s" for name in names)]]
    for needs, run in runs:
        rows.append(
            [
                amount(needs.per_day),
                f"{run.requests:,}",
                f"{run.duration_s:,.0f}",
                *(f"{run.latencies.quantile(share):.2f}" for share in (0.5, 0.95, 0.99)),
                f"{run.latencies.share_above(given.late_s):.2%}",
                *(
                    f"{run.tiers[name].replica_s / run.duration_s:,.1f}, most {run.tiers[name].most_replicas:,}; "
                    f"{run.tiers[name].waits.quantile(0.99):.2f}"
                    for name in names
                ),
            ]
        )
    return rows
