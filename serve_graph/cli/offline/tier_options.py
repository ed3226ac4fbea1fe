"""Options that the offline analyses share: tiers, prices, and assumptions where nothing is recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router_models.errors import by_number
from serve_graph.cli.output import progress_to_stderr

if TYPE_CHECKING:
    from router_models.data.embeddings.cache import TextEncoder
    from router_models.data.outcomes import OutcomeTable
    from router_models.estimators.signals import TierKind
    from router_models.pricing.tier_costs import TierCosts

EMBEDDINGS_CACHE = Path(".serve_graph/embeddings")

SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]
ScaleOption = Annotated[str | None, typer.Option("--scale", help="LOW,HIGH of grades that are scores, e.g. 1,10.")]
EmbeddingsOption = Annotated[
    Path | None, typer.Option("--embeddings", help="The prompts' embeddings, .npy, one row each in the file's order.")
]
CacheOption = Annotated[Path, typer.Option("--cache", help="Folder in which computed embeddings are cached.")]
PriceWeakOption = Annotated[
    str | None, typer.Option("--price-weak", help="IN,OUT[,CACHED] dollars per million tokens of the weak tier.")
]
PriceStrongOption = Annotated[
    str | None, typer.Option("--price-strong", help="IN,OUT[,CACHED] dollars per million tokens of the strong tier.")
]
TokensWeakOption = Annotated[
    str | None, typer.Option("--tokens-weak", help="IN,OUT tokens per call to assume where none are recorded.")
]
TokensStrongOption = Annotated[
    str | None, typer.Option("--tokens-strong", help="IN,OUT tokens per call to assume where none are recorded.")
]
LatencyWeakOption = Annotated[
    str | None, typer.Option("--latency-weak", help="P50,P95 seconds to assume where no latency is recorded.")
]
LatencyStrongOption = Annotated[
    str | None, typer.Option("--latency-strong", help="P50,P95 seconds to assume where no latency is recorded.")
]
CharsOption = Annotated[
    float | None, typer.Option("--chars-per-token", help="Assume tokens from characters, e.g. 4, where not recorded.")
]
KindWeakOption = Annotated[
    str | None,
    typer.Option(
        "--kind-weak",
        help="What comes with the weak tier's answers: vllm (default), hosted-logprobs, hosted (without) or echo.",
    ),
]
GraphOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="A graph's configuration: kinds and places of tiers.")
]
SpareCertOption = Annotated[
    bool,
    typer.Option("--spare-cert", help="Leave out the prompts that `certify` reads (same --seed and --group-by)."),
]
TermsOption = Annotated[
    Path | None,
    typer.Option("--terms", help="YAML with `tiers:`: price, batch, tokens, token_ratio, cached_share, latency_s."),
]


@dataclass(frozen=True, slots=True)
class TierFlags:
    """One tier's options as typed; `which` is weak, strong, or '' for a tier that only a file describes."""

    tier: str
    which: str
    price: str | None
    tokens: str | None = None
    latency: str | None = None


def check_tiers_differ(weak: str, strong: str) -> None:
    """Raise BadParameter (exit 2) if both tiers are the same."""
    if weak == strong:
        raise typer.BadParameter(f"--weak and --strong name the same tier {weak!r}: name two different tiers")


def tier_costs_of(flags: TierFlags, chars_per_token: float | None, file: Path | None) -> TierCosts:
    """Return one tier's costs from its options, or from the file of --terms; exit 2 if neither gives a price."""
    from decimal import Decimal

    from router_models.planning.inputs import read_tier_inputs
    from router_models.pricing.prices import Price
    from router_models.pricing.tier_costs import TierCosts

    which = flags.which
    if flags.price is None and file is not None:
        return read_tier_inputs(file, flags.tier)
    if flags.price is None:
        option = f"--price-{which} IN,OUT, or " if which else ""
        raise typer.BadParameter(f"prices of {flags.tier!r} are needed: {option}--terms FILE")
    input_tokens, output_tokens = pair(flags.tokens, f"--tokens-{which}") or (None, None)
    p50, p95 = pair(flags.latency, f"--latency-{which}") or (None, None)
    return TierCosts(
        price=Price(*map(Decimal, numbers(flags.price, f"--price-{which}", 2, 3))),
        chars_per_token=chars_per_token,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        latency_p50_s=p50,
        latency_p95_s=p95,
    )


def numbers(text: str, flag: str, least: int, most: int) -> list[str]:
    """Return the comma-separated numbers of an option, as text; exit 2 if they are not finite numbers."""
    parts = [part.strip() for part in text.split(",")]
    count = str(least) if least == most else f"{least} to {most}"
    complaint = typer.BadParameter(f"{flag} takes {count} finite numbers, comma-separated; found {text!r}")
    try:
        fine = least <= len(parts) <= most and all(math.isfinite(float(part)) for part in parts)
    except ValueError as error:
        raise complaint from error
    if not fine:
        raise complaint
    return parts


def weak_kind(weak: str, kind: str | None, config: Path | None) -> TierKind:
    """Return the kind of the weak tier: as given, as configured, or vllm; exit 2 for one that does not exist."""
    from router_models.estimators.signals import TierKind
    from serve_graph.config.graph import load_config
    from serve_graph.policy.tier_kinds import tier_kinds

    if kind is not None:
        if kind not in list(TierKind):
            raise typer.BadParameter(f"--kind-weak is one of {', '.join(TierKind)}; found {kind!r}")
        return TierKind(kind)
    if config is None:
        return TierKind.VLLM
    found = tier_kinds(load_config(config))
    if weak not in found:
        raise typer.BadParameter(
            f"--config {config} has no tier {weak!r} (it has {', '.join(found)}): use --kind-weak"
        )
    return found[weak]


def pair(text: str | None, flag: str) -> tuple[float, float] | None:
    """Return the two numbers of an option, None if it was not given."""
    if text is None:
        return None
    low, high = numbers(text, flag, 2, 2)
    return float(low), float(high)


def without_cert(table: OutcomeTable, tiers: tuple[str, str], seed: int, group_by: str | None) -> OutcomeTable:
    """Return the rows that `certify` will not read, for the same seed and groups."""
    import numpy as np

    from router_models.training.splits import split_outcomes

    splits = split_outcomes(table, tiers, seed, group_by)
    return splits.table.take(~np.isin(splits.table.groups, splits.cert.groups))


def note_comparison(
    table: OutcomeTable, group_by: str | None, cache: Path, command: str, tried: Sequence[str]
) -> None:
    """Note beside the embeddings that a command compared families on these labels: `certify` counts it as a look."""
    from router_models.training.labelling.label_budget import note_choice, prompt_labels

    try:
        note_choice(cache.parent, prompt_labels(table, group_by), command, tried)
    except OSError as error:
        progress_to_stderr()(f"this comparison could not be noted ({error}): `certify` will not count it as a look")
        return
    progress_to_stderr()(
        f"noted in {cache.parent / 'looks'}: what this comparison recommends was chosen on these {len(table)} labels, "
        "and `certify` counts it as a look at those that it reads (--spare-cert leaves them out)"
    )


def drawn_only(table: OutcomeTable) -> OutcomeTable:
    """Return the rows that may speak for traffic, and say how many of served traffic were left out."""
    import numpy as np

    from router_models.training.whose_labels import without_chosen
    from router_models.types.drawn import drawn_rows

    kept = without_chosen(table)
    if len(kept) < len(table):
        progress_to_stderr()(
            f"{len(table) - len(kept)} of {len(table)} prompts are left out: they were chosen by what answered them "
            "or by who graded them (column `drawn`)"
        )
    gaps = drawn_rows(kept.prompts) & np.any([np.isnan(kept.grade(tier)) for tier in kept.tiers], axis=0)
    if n := int(gaps.sum()):
        progress_to_stderr()(
            f"{n} {by_number(n, 'prompt')} of the random sample {by_number(n, 'has', 'have')} no grade of "
            f"every tier (a judge's tie, say) and {by_number(n, 'is', 'are')} left out: figures are of the others"
        )
    return kept


def embedded(
    table: OutcomeTable,
    embeddings: Path | None,
    cache: Path,
    encoder: TextEncoder | None = None,
    whose: str | None = None,
) -> OutcomeTable:
    """Return the table with embeddings from a file, or made (by the packaged encoder) and cached in the folder.

    `whose`: who else embeds what these are compared with. A file that `encoder` did not make is refused then; without
    an `encoder` one by another make of this release's model is taken, and said to be such.
    """
    from router_models.data.embeddings.encoder import Encoder

    if embeddings is not None:
        table = table.with_embeddings(embeddings)
        if whose is not None:
            check_embeddings(table, embeddings, encoder or Encoder(), whose, exactly=encoder is not None)
        return table
    progress = progress_to_stderr()
    progress(f"embedding {len(table)} prompts (cached in {cache})")
    return table.with_embeddings(encoder or Encoder(), cache, progress)


def check_embeddings(
    table: OutcomeTable, source: Path, encoder: TextEncoder, whose: str, *, exactly: bool = True
) -> None:
    """Raise DataError, naming the file, where a table's embeddings are not those of an encoder."""
    from router_models.data.embeddings.whose_embeddings import check_made_by
    from router_models.errors import DataError

    assert table.prompts.embeddings is not None
    try:
        said = check_made_by(encoder, table.prompts.texts, table.prompts.embeddings, whose, exactly=exactly)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    if said is not None:
        progress_to_stderr()(f"{source}: {said}")
