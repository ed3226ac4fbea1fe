"""`serve-graph evaluate`: compare routers on recorded outcomes with random, prompt length and the oracle."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_graph.cli.offline.tier_options import (
    EMBEDDINGS_CACHE,
    CacheOption,
    CharsOption,
    EmbeddingsOption,
    GraphOption,
    KindWeakOption,
    PriceStrongOption,
    PriceWeakOption,
    ScaleOption,
    SeedOption,
    SpareCertOption,
    TermsOption,
    TierFlags,
    TokensStrongOption,
    TokensWeakOption,
    check_tiers_differ,
    drawn_only,
    embedded,
    note_comparison,
    pair,
    tier_costs_of,
    weak_kind,
    without_cert,
)
from serve_graph.cli.offline.train import GroupByOption
from serve_graph.cli.output import JsonOption, check_out, progress_to_stderr, say, say_json

if TYPE_CHECKING:
    from router_models.data.outcomes import OutcomeTable
    from router_models.evaluation.cross_validation import Source
    from router_models.pricing.tier_costs import TierCosts


THE_RESTS_ENCODER = "the encoder of this release, which embeds the other texts here,"
TARGET_HELP = (
    "What routers learn: weak (its grade), gain (1 + weak - strong) / 2, ease (weak + strong) / 2; "
    "auto: gain, or ease where --train holds another pair, whose gain does not transfer."
)


def evaluate(
    outcomes: Annotated[
        Path | None, typer.Option("--outcomes", "-o", help="Recorded outcomes: .parquet, .csv or .jsonl.")
    ] = None,
    weak: Annotated[str | None, typer.Option(help="The cheaper tier's name in the outcomes.")] = None,
    strong: Annotated[str | None, typer.Option(help="The better tier's name in the outcomes.")] = None,
    router: Annotated[str, typer.Option(help="Router families, comma-separated; or default, or all.")] = "default",
    hold_out: Annotated[
        str | None, typer.Option(help="Column whose values are held out one by one; default: domain, category, …")
    ] = None,
    group_by: GroupByOption = None,
    spare_cert: SpareCertOption = False,
    kind_weak: KindWeakOption = None,
    config: GraphOption = None,
    labels: Annotated[int | None, typer.Option(help="Train on at most this many prompts per fold.", min=1)] = None,
    folds: Annotated[int, typer.Option(help="Number of cross-validation folds.", min=2)] = 5,
    target: Annotated[str, typer.Option(help=TARGET_HELP)] = "auto",
    train: Annotated[Path | None, typer.Option(help="Train on these outcomes instead of on folds.")] = None,
    train_weak: Annotated[str | None, typer.Option(help="The weak tier's name in --train.")] = None,
    train_strong: Annotated[str | None, typer.Option(help="The strong tier's name in --train.")] = None,
    train_embeddings: Annotated[Path | None, typer.Option(help="Embeddings of the prompts of --train, .npy.")] = None,
    price_weak: PriceWeakOption = None,
    price_strong: PriceStrongOption = None,
    tokens_weak: TokensWeakOption = None,
    tokens_strong: TokensStrongOption = None,
    chars_per_token: CharsOption = None,
    terms: TermsOption = None,
    epsilon: Annotated[float, typer.Option(help="Risk budget of the certified operating point.")] = 0.10,
    delta: Annotated[float, typer.Option(help="1 − confidence of the certified operating point.")] = 0.10,
    acceptable: Annotated[
        float | None, typer.Option(help="Least grade that counts as correct when certifying.")
    ] = None,
    scale: ScaleOption = None,
    embeddings: EmbeddingsOption = None,
    cache: CacheOption = EMBEDDINGS_CACHE,
    seed: SeedOption = 0,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Compare the weak answer's logprobs, the router, and both combined.")
    ] = False,
    catalogue: Annotated[
        Path | None,
        typer.Option(help="A catalogue of intents (YAML): what it takes, gains and costs on the outcomes."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="'routellm': RouteLLM's published responses; 'routerarena': RouterArena's.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The checkout of the --benchmark.")] = None,
    every: Annotated[Path | None, typer.Option("--all", help="Evaluate every outcomes file in this folder.")] = None,
    tiers: Annotated[
        list[str] | None, typer.Option("--pair", help="FILE-STEM=WEAK:STRONG for --all; may be repeated.")
    ] = None,
    left_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="With --all: leave every set out once, and show one router before and after its fallback to length. "
            "--labels bounds the prompts of a set.",
        ),
    ] = False,
    slow: Annotated[
        int | None,
        typer.Option(
            help="With --all: also the slow families and those with a --reader, on this many prompts.", min=50
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            help="A causal model (folder or package) that reads each prompt: P(yes) for p-yes and asked-first, the "
            "first token's entropy for asked-first, hidden states for probe."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report, figures and plots (with --all: a .md file).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Cross-validate routers: PGR, APGR, CPT(50), CPT(80), AIQ, certified point, slices, unseen domains.

    Near-duplicate prompts share a fold, and so do rows that share a value of --group-by; every score is out of fold;
    intervals are from a paired bootstrap over such groups. Embeddings are computed once and cached. `certify` counts a
    comparison as a look at the labels that it reads, unless --spare-cert left them out.

    Example: serve-graph evaluate --outcomes outcomes.parquet --weak cheap --strong frontier --router default,knn

    With --cascade: whether the weak answer is correct is predicted from its logprobs, from the prompt, and from both.
    Only signals that a served version has of the weak tier count (--kind-weak, --config; docs/reference/signals.md).

    With --catalogue FILE: a catalogue of intents beside the routers, paired with the routers alone.

    The paper's benchmarks: serve-graph evaluate --benchmark routellm --data ../RouteLLM

    RouterArena's, with --weak and --strong for our routers on two of its models:
    serve-graph evaluate --benchmark routerarena --data ../RouterArena

    Unlike prompts: serve-graph evaluate --all ../shared/data --leave-one-out --out left-out.md
    """
    from router_models.evaluation.cross_validation import Protocol
    from router_models.evaluation.run import Destination
    from router_models.evaluation.slow import Slow

    protocol = Protocol(tuple(router.split(",")), folds, labels, hold_out, target, None, seed)
    progress = progress_to_stderr()
    check_out(out, folder=every is None)
    to = Destination(_made(), out, progress)
    if sum(given is not None for given in (outcomes, benchmark, every)) != 1:
        raise typer.BadParameter("give one of --outcomes FILE, --benchmark routellm or routerarena, --all FOLDER")
    if catalogue is not None and (outcomes is None or cascade):
        raise typer.BadParameter("--catalogue requires --outcomes, without --cascade")
    if left_out and (every is None or slow is not None):
        raise typer.BadParameter("--leave-one-out requires --all, without --slow")
    if slow is not None and every is None:
        raise typer.BadParameter("--slow requires --all; name the family instead: --router encoder")
    if reader is not None and (benchmark is not None or (every is not None and slow is None)):
        raise typer.BadParameter("--reader requires --outcomes, or --all with --slow N")
    model = None if reader is None else _model_folder(reader, progress)
    if benchmark is not None:
        from router_models.evaluation.benchmarks.routerarena import run_arena
        from router_models.evaluation.run import run_benchmark

        if benchmark not in ("routellm", "routerarena") or data is None:
            raise typer.BadParameter("use --benchmark routellm --data CHECKOUT, or --benchmark routerarena")
        if benchmark == "routerarena":
            if (weak is None) != (strong is None):
                raise typer.BadParameter("name both models, or neither: --weak A --strong B")
            check_tiers_differ(weak or "weak", strong or "strong")
            text, figures = run_arena(data, weak, strong, protocol, cache, to)
        else:
            text, figures = run_benchmark(data, protocol, cache, epsilon, delta, to)
    elif every is not None:
        from router_models.evaluation.benchmarks.left_out_sets import run_left_out
        from router_models.evaluation.run_all import run_all

        pairs = dict(_pair_of(text) for text in tiers or [])
        rest = None if slow is None else Slow(slow, model, cache)
        if left_out:
            text, figures = run_left_out(every, pairs, protocol, cache, to)
        else:
            text, figures = run_all(every, pairs, protocol, cache, to, rest)
    else:
        from dataclasses import replace

        from router_models.data.outcomes import read_outcomes
        from router_models.evaluation.benchmarks.prompt_readers import read_by, read_by_families
        from router_models.evaluation.held_out import families_tried, want_embeddings
        from router_models.evaluation.run import run_cascade, run_one

        assert outcomes is not None
        if weak is None or strong is None:
            raise typer.BadParameter("name both tiers: --weak A --strong B")
        check_tiers_differ(weak, strong)
        prices = _prices(weak, strong, price_weak, price_strong, tokens_weak, tokens_strong, chars_per_token, terms)
        named = [column for column in (group_by, hold_out) if column]
        table = read_outcomes(outcomes, (weak, strong), pair(scale, "--scale"), named)
        use_embeddings = want_embeddings(protocol.families) or catalogue is not None
        if use_embeddings or embeddings is not None:
            beside = catalogue is not None or (train is not None and train_embeddings is None)
            table = embedded(table, embeddings, cache, whose=THE_RESTS_ENCODER if beside and use_embeddings else None)
        table = _grouped(drawn_only(table), group_by, folds)
        if spare_cert:
            table = without_cert(table, (weak, strong), seed, group_by)
        if model is not None:
            tried = families_tried(protocol.families)
            if not read_by_families(tried):
                raise typer.BadParameter(
                    "--reader: none of these routers reads a model; name p-yes, asked-first or probe"
                )
            table = read_by(table, model, cache, progress=progress, families=tried)
        if catalogue is not None:
            from router_models.estimators.catalogue.intents import read_catalogue
            from router_models.evaluation.benchmarks.intents import run_catalogue
            from router_models.evaluation.cross_validation import costs_of

            known, priced = read_catalogue(catalogue, (weak, strong)), table.only(weak, strong)
            spent = costs_of(priced, weak, strong, prices, epsilon=epsilon, delta=delta, acceptable=acceptable)
            text, figures = run_catalogue(priced, weak, strong, known, protocol, spent, outcomes.stem, to)
        elif cascade:
            text, figures = run_cascade(
                table, weak, strong, protocol, epsilon, outcomes.stem, to,
                weak_kind(weak, kind_weak, config),
            )  # fmt: skip
        else:
            source = _source(
                train, train_weak, train_strong, train_embeddings, cache, use_embeddings,
                None if embeddings is None else table,
            )  # fmt: skip
            text, figures = run_one(
                table.only(weak, strong), weak, strong, replace(protocol, train=source), prices,
                (epsilon, delta, acceptable), outcomes.stem, to,
            )  # fmt: skip
    if outcomes is not None:
        note_comparison(table, group_by, cache, "evaluate", protocol.families)
    if as_json:
        say_json(figures)
    else:
        say(text)


def _grouped(table: OutcomeTable, column: str | None, folds: int) -> OutcomeTable:
    """Return the table with the rows of a column's values together; exit 2 for a column of too few values."""
    from router_models.data.groups import grouped_by

    values = len(set(table.column(column))) if column else 0
    if column and values < 2 * folds:
        raise typer.BadParameter(
            f"--group-by {column}: {values} values are too few groups for {folds} folds; to hold out its values one "
            f"by one, as --group-by did until 0.2, use --hold-out {column}"
        )
    return grouped_by(table, column)


def _prices(
    weak: str,
    strong: str,
    price_weak: str | None,
    price_strong: str | None,
    tokens_weak: str | None,
    tokens_strong: str | None,
    chars_per_token: float | None,
    terms: Path | None,
) -> tuple[TierCosts, TierCosts] | None:
    if price_weak is None and price_strong is None and terms is None:
        return None
    return (
        tier_costs_of(TierFlags(weak, "weak", price_weak, tokens_weak), chars_per_token, terms),
        tier_costs_of(TierFlags(strong, "strong", price_strong, tokens_strong), chars_per_token, terms),
    )


def _source(
    path: Path | None, weak: str | None, strong: str | None, embeddings: Path | None, cache: Path,
    use_embeddings: bool, brought: OutcomeTable | None,
) -> Source | None:  # fmt: skip
    """What is trained on. `brought`: what is tested on, where its embeddings came from a file, too."""
    from router_models.data.outcomes import read_outcomes
    from router_models.evaluation.cross_validation import Source

    if path is None:
        return None
    if weak is None or strong is None:
        raise typer.BadParameter("--train needs --train-weak and --train-strong")
    table = read_outcomes(path, (weak, strong))
    if use_embeddings or embeddings is not None:
        beside = use_embeddings and brought is None
        table = embedded(table, embeddings, cache, whose=THE_RESTS_ENCODER if beside else None)
        _check_one_encoder(table, brought)
    return Source(path.stem, table.only(weak, strong), weak, strong)


def _check_one_encoder(table: OutcomeTable, brought: OutcomeTable | None) -> None:
    from router_models.errors import DataError

    learned = table.prompts.embeddings
    tested = None if brought is None else brought.prompts.embeddings
    if learned is not None and tested is not None and learned.shape[1] != tested.shape[1]:
        raise DataError(
            f"embeddings of {learned.shape[1]} numbers to train on and of {tested.shape[1]} to test on: not of one "
            "encoder"
        )


def _model_folder(name: str, progress: Callable[[str], None]) -> Path:
    """Return a model's folder: the given one, or that of a package's weights, which are converted once."""
    from serve_graph.config.tiers.weights import WeightsConfig
    from serve_graph.engines.weights.resolve import resolve_weights

    if (Path(name) / "config.json").is_file() or "/" in name:
        return Path(name)
    return Path(resolve_weights(WeightsConfig(package=name), EMBEDDINGS_CACHE.parent, progress))


def _pair_of(text: str) -> tuple[str, tuple[str, str]]:
    stem, equals, names = text.partition("=")
    weak, colon, strong = names.partition(":")
    if not equals or not colon:
        raise typer.BadParameter(f"--pair takes FILE-STEM=WEAK:STRONG, found {text!r}")
    return stem, (weak, strong)


def _made() -> str:
    from router_models.evaluation.run import machine

    command = shlex.join(["serve-graph", *sys.argv[1:]])
    return f"Made {datetime.now(UTC):%Y-%m-%d} on {machine()}.\n\n```\n{command}\n```"
