"""What a sample of a dataset says of all of it before it is paid for: misses by the certificate, and the time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from router_models.errors import by_number
from serve_graph.cli.batch.forecast import CostMoments, mean_forecast
from serve_graph.cli.batch.quality.exact import exact_interval
from serve_graph.cli.batch.quality.measured_quality import KEPT

if TYPE_CHECKING:
    from router_models.risk_control.certificates.certificate import Certificate
    from serve_graph.policy.served_policy import ServedPolicy

Proof = tuple["Certificate | None", str]
"""The certificate that holds of a run's answers; None, and why."""
EACH = 0.025
"""What each of two intervals may miss, so that both hold together with 95 %."""
LONGEST_BATCH_S = 24 * 3600.0
"""Within which providers answer a batch."""


def proof_of(policy: ServedPolicy, void: str | None = None) -> Proof:
    """The certificate of a served version; none where nothing is promised under it, or `void` says why not."""
    if policy.certificate is None or not policy.headline:
        return None, policy.promise
    return (policy.certificate, "") if void is None else (None, void)


def absent_registry(uri: str) -> str | None:
    """The file of a registry that is not there, and that reading would make; None where it is, or is no file."""
    kind, is_sqlite, path = uri.partition("sqlite:///")
    return path if is_sqlite and not kind and not Path(path).exists() else None


def configured_proof(config: Path | None, version: str | None, certified: bool | None) -> Proof:
    """The certificate of the version that a running graph says it serves, found by the graph's configuration."""
    if config is None:
        return None, "--config names the graph, whose registry has the certificate"
    from router_models.errors import RouterModelsError
    from serve_graph.config.graph import load_config
    from serve_graph.policy.served_version import ServedVersion
    from serve_graph.policy.serving_version import serving_version

    graph = load_config(config)
    if (absent := absent_registry(graph.registry_uri)) is not None:
        return None, f"there is no registry {absent}"
    try:
        found = ServedVersion.of(serving_version(graph), graph)
    except RouterModelsError as error:
        return None, str(error)
    if version is not None and found.name != version:
        return None, f"the graph serves {version}, and {config} would serve {found.name}"
    return proof_of(found.policy, None if certified is not False else "the graph says that nothing is promised now")


def foretold_misses(sample: Sequence[Mapping[str, Any]], rows: int, proof: Proof) -> dict[str, Any] | None:
    """How many of `rows` answers will be wrong, by what was measured when the certificate was made.

    Only answers that a tier below the last gives are misses of the cascade: what the last tier answers it would answer
    anyway. The share of these is the sample's, their risk the certificate's: its bound, and what CERT showed. Each
    figure's interval holds with 95 %, both shares counted.

    None without a sample.
    """
    certificate, why = proof
    if not sample:
        return None
    kept = sum(str(one.get("outcome")) in KEPT for one in sample)
    low, high = exact_interval(kept, len(sample))
    told: dict[str, Any] = {
        "rows": rows,
        "kept": {"share": kept / len(sample), "low": low, "high": high, "count": kept, "of": len(sample)},
        "why_not": why if certificate is None else None,
        "certified": None,
        "harm": None,
        "wrong": None,
        "last_tier_wrong": None,
    }
    if certificate is None:
        return told
    from router_models.risk_control.certificates.risks import ANSWERED_RISK

    of = rows if certificate.what == ANSWERED_RISK else rows * high
    told["certified"] = {
        "what": certificate.what,
        "epsilon": certificate.epsilon,
        "confidence": 1 - certificate.delta,
        "at_most": certificate.epsilon * of,
    }
    if (found := certificate.compared) is not None and found.kept:
        counts = {
            "harm": found.harmed,
            "wrong": found.wrong,
            "last_tier_wrong": found.wrong - found.harmed + found.gained,
        }
        told |= {name: _of_all(count, found.kept, kept, len(sample), rows) for name, count in counts.items()}
    return told


def _of_all(count: int, of: int, kept: int, sampled: int, rows: int) -> dict[str, Any]:
    """A rate among kept answers, times the share that is kept, of all rows."""
    rate, share = exact_interval(count, of, EACH), exact_interval(kept, sampled, EACH)
    return {
        "count": count,
        "of": of,
        "rows": count / of * kept / sampled * rows,
        "low": rate[0] * share[0] * rows,
        "high": rate[1] * share[1] * rows,
    }


class TimedRun(Protocol):
    """What of a run's time a forecast is made by. `once_s`: seconds that more rows do not make longer."""

    @property
    def asked(self) -> int: ...
    @property
    def once_s(self) -> float: ...


def foretold_time(
    pace: str, done: TimedRun, seconds: float, left: int, took: Iterable[float], tiers: int
) -> dict[str, Any] | None:
    """Seconds for the rows that are left, as a run of this `pace` goes.

    `rows`: as many at a time as in the sample; the interval is that of the mean row (Student's t of `took`, seconds of
    each). `passes`: from starts of engines counted once to the whole sample's time for each of its rows. `batches`: a
    provider has a day for each of as many batches one after the other as there are `tiers`. `mixed`: passes some of
    which wait for a provider's batch: what they first wait for is counted once, and up to a day for each such pass.
    """
    if not done.asked:
        return None
    if pace == "batches":
        said = "as long as the sample's batches, or a day for each that follows another"
        return {"seconds": seconds, "low": seconds, "high": max(seconds, tiers * LONGEST_BATCH_S), "basis": said}
    linear = seconds / done.asked * left
    if pace == "mixed":
        least = done.once_s + (seconds - done.once_s) / done.asked * left
        said = "what passes first wait for counts once; high: a day for each that waits for a provider's batch"
        return {"seconds": least, "low": least, "high": least + tiers * LONGEST_BATCH_S, "basis": said}
    if pace == "passes":
        least = done.once_s + (seconds - done.once_s) / done.asked * left
        most = max(least, linear)  # of few rows that are left, starts are the most
        said = "low: what passes first wait for counts once; high: every row as in the sample, with engines not full"
        return {"seconds": most, "low": least, "high": most, "basis": said}
    each = list(took)
    found, mean = mean_forecast(each, 1), CostMoments.of(each).mean
    off = math.inf if found is None or not mean else (found["high"] - found["usd"]) / mean
    low, high = linear * max(0.0, 1 - off), linear * (1 + off)
    said = "the mean row's seconds, as many rows at a time as in the sample"
    return {"seconds": linear, "low": low, "high": high if math.isfinite(high) else None, "basis": said}


def batches_in_a_row(told: Mapping[str, Mapping[str, Any]] | None, rows: int, at_a_time: int) -> int:
    """How many batches of providers may follow one another for so many rows, by a summary's `provider_batches`."""
    return sum(int(sent.get("passes", 1)) for sent in (told or {}).values()) * max(1, math.ceil(rows / at_a_time))


def foretold_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Misses as lines of text."""
    kept, rows = told["kept"], told["rows"]
    yield (
        f"misses: a tier below the last gives {100 * kept['share']:.1f} % of the answers "
        f"({100 * kept['low']:.1f} to {100 * kept['high']:.1f}, 95 %); the others are the last tier's own"
    )
    if told["certified"] is None:
        yield f"  how many of these are wrong is not known: {told['why_not']}"
        return
    bound = told["certified"]
    yield (
        f"  certified: {bound['what']} <= {bound['epsilon']:g} with {100 * bound['confidence']:.4g} % confidence: "
        f"at most {bound['at_most']:,.0f} of {rows:,} {by_number(rows, 'row')}"
    )
    words = {
        "harm": "wrong where the last tier is right",
        "wrong": "wrong",
        "last_tier_wrong": "the last tier alone would be wrong on these in",
    }
    for name, text in words.items():
        if (found := told[name]) is not None:
            yield (
                f"  measured on CERT, {text}: {found['count']:,} of {found['of']:,} such answers; of {rows:,} "
                f"{by_number(rows, 'row')} "
                f"{found['rows']:,.0f} ({found['low']:,.0f} to {found['high']:,.0f}, 95 %)"
            )
    if told["wrong"] is None:
        yield "  measured rates: not recorded in this certificate"


def time_text(found: Mapping[str, Any]) -> str:
    """Time in words."""
    high = "no bound from so few rows" if found["high"] is None else _duration(found["high"])
    return f"time: {_duration(found['seconds'])} ({_duration(found['low'])} to {high}; {found['basis']})"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
