"""`batch run`: a dataset's rows through a running graph, each once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.batch.plan_command import plan_batch_run
from serve_graph.cli.batch.quality.audit_command import audit_batch
from serve_graph.cli.extras import SERVING, needs, require
from serve_graph.cli.output import JsonOption, check_out, progress_to_stderr, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from serve_graph.cli.batch.passes.own_engines import OwnPasses
    from serve_graph.cli.batch.running import BatchOptions

app = typer.Typer(no_args_is_help=True, help="Answer the rows of a dataset.")


app.command("plan")(plan_batch_run)
app.command("audit")(needs("batch audit", "httpx")(audit_batch))


@app.callback()
def batch() -> None:
    """Answer the rows of a dataset, with a running graph or in passes over the data."""


@app.command()
@needs("batch run", "httpx")
def run(
    inputs: Annotated[list[str], typer.Argument(help="JSONL, CSV or parquet files, globs, or URIs (s3://…, gs://…).")],
    out: Annotated[Path, typer.Option(help="The result, .jsonl or .parquet; OUT.journal beside it is the memory.")],
    url: Annotated[str, typer.Option(help="URL of the endpoint, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str, typer.Option(help="auto, or the name of a tier.")] = "auto",
    prompt_column: Annotated[
        str, typer.Option(help="The column with the text, where there is no `messages`.")
    ] = "prompt",
    system: Annotated[Path | None, typer.Option(help="A file with a system prompt for every row.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer; default: the tier's.")] = None,
    response_format: Annotated[
        Path | None, typer.Option(help="A JSON file with the `response_format` of every row, such as a JSON schema.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Rows under way; default 16, with --provider-batches 5000.", min=1, max=50_000)
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Begin nothing that might cost more in all.", min=0)] = None,
    dry_run: Annotated[
        int | None,
        typer.Option(help="Ask so many rows, drawn at random, and say what all would cost, take and miss.", min=2),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="With --dry-run: ask the same rows of every tier alone, too (--config).")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask the rows again that failed, and no others.")
    ] = False,
    other_versions: Annotated[
        bool, typer.Option("--again", help="Ask rows again that another version has answered than serves now.")
    ] = False,
    records: Annotated[
        bool, typer.Option("--records", help="Read every answer's decision record as well (a key with admin).")
    ] = False,
    audit: Annotated[
        int | None, typer.Option(help="Draw so many answers for a person to look at: OUT.audit.jsonl.", min=1)
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Give way to requests that somebody waits for, as /v1/batches does.")
    ] = False,
    passes: Annotated[
        bool, typer.Option("--passes", help="Answer in passes over the data, with the engines of --config's tiers.")
    ] = False,
    provider_batches: Annotated[
        bool,
        typer.Option("--provider-batches", help="Hosted tiers by their provider's Batch API, at price.batch_factor."),
    ] = False,
    interactive: Annotated[
        list[str] | None,
        typer.Option(help="With --provider-batches: a hosted tier to ask call by call instead; may be repeated."),
    ] = None,
    poll_s: Annotated[float, typer.Option(help="With --provider-batches: seconds between looks.", min=0.05)] = 30.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows that go to an engine together, with --passes.")] = 64,
    max_num_seqs: Annotated[
        int | None,
        typer.Option(min=1, help="Rows that an engine of vLLM computes at a time, with --passes; default: as served."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A configuration: prices to compare with, engines and APIs that answer."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the rows that --dry-run and --audit draw.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Answer every row of a dataset once, and write the answers beside the rows, in their order.

    A row is known by its contents and by what is asked of all (model, system prompt, max_tokens, response_format): run
    it again after an interruption, or with more rows, and what is answered is not asked, nor paid, again. At most what
    was under way is. Equal rows have one answer. Rows that fail five times are in OUT.failed.jsonl; --retry-failed
    asks those alone.

    Columns of the result: the row's own, answer, and serve_graph_* (status, tier, outcome, version, cost_usd,
    decision, finish_reason, prompt_tokens, completion_tokens, error). The rows are requests of the key in
    $SERVE_GRAPH_KEY, as interactive as any, or with --background as lines of /v1/batches, which yield to others.

    --records adds the columns p_answer_ok, promised and not_promised, and to the summary which shares are covered and
    promised and what was saved beside the last tier alone.

    --dry-run says what all rows would cost, take and miss, with intervals: misses by the served version's certificate
    (over HTTP with --config); --compare asks the sample of every tier alone as well. --audit N draws answers in random
    order, without who gave them: `serve-graph label OUT.audit.jsonl` shows them, `serve-graph batch audit` says what
    is known of the batch then.

    --passes needs no running graph: Ray Data routes all rows, has the cheap tier answer its rows at full batch size,
    judges, and has the last tier answer what is left, with the engines that --config serves (weights, arguments,
    decoding), and the summary says whether the certificate holds of that. Engines stand one after another, so that
    each has the whole machine, and --max-num-seqs lets them compute more rows at a time than interactive requests
    could wait for. --records then writes the decision records.

    --provider-batches (with --config) runs the served version's cascade in this process: calls of hosted tiers are
    gathered into batches of their provider (half of the price with most), those of other tiers go to the graph at
    --url. Run it again after an interruption: batches that were sent are found again, and nothing is sent twice.

    --passes --provider-batches does both in one run: rows for hosted tiers are their provider's batches, those for
    other tiers go through the passes' own engines. --interactive TIER has a hosted tier whose API has no batches asked
    call by call, by the passes or by the graph at --url.

    Exit 1 where rows failed or are left.

    Example: serve-graph batch run questions.csv --prompt-column text --out answers.parquet --budget-usd 5

    Example: serve-graph batch run 'data/*.jsonl' --out answers.jsonl --dry-run 200 --config configs/local.yaml

    Example: serve-graph batch run pages.parquet --out answers.parquet --passes --config graph.yaml
    """
    from serve_graph.cli.batch.dataset import Dataset, read_response_format
    from serve_graph.cli.batch.running import BatchOptions, batch_summary_lines, run_batch

    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(out)):
        raise ServeGraphError(f"--out {out} must be a path of this machine (its journal lies beside it): copy it then")
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix not in (".jsonl", ".parquet"):
        raise ServeGraphError(f"--out {out} must end in .jsonl or .parquet")
    if provider_batches:
        require("`serve-graph batch run --provider-batches`", *SERVING)
        if config is None:
            raise ServeGraphError("--provider-batches needs --config: the tiers with their prices and keys")
    elif interactive:
        raise ServeGraphError("--interactive is for --provider-batches: without it every tier is asked call by call")
    if max_num_seqs is not None and not passes:
        raise ServeGraphError("--max-num-seqs is for --passes: a running graph has engines of its own")
    if compare and (dry_run is None or config is None):
        raise ServeGraphError("--compare is for --dry-run, and needs --config: the tiers with their prices")
    dataset = Dataset.found(inputs, prompt_column, out)
    prompt = None if system is None else system.read_text(encoding="utf-8").strip()
    options = BatchOptions(
        url.rstrip("/").removesuffix("/v1"), out, model, prompt, max_tokens,
        concurrency or (5000 if provider_batches else 16),
        budget_usd, dry_run, retry_failed, other_versions, config, seed, records, audit, background,
        response_format=None if response_format is None else read_response_format(response_format),
        provider_batches=provider_batches, poll_s=poll_s, compare=compare, interactive=tuple(interactive or ()),
    )  # fmt: skip
    make = (lambda chosen: own_passes(chosen, batch_size, max_num_seqs)) if passes else None
    summary: dict[str, Any] = run_batch(dataset, options, progress_to_stderr(), make=make)
    if as_json:
        say_json(summary)
    else:
        for line in batch_summary_lines(summary):
            say(line)
    if summary["failed"] or (summary["left"] and dry_run is None):
        raise typer.Exit(1)


def own_passes(options: BatchOptions, batch_size: int, max_num_seqs: int | None) -> OwnPasses:
    """What answers rows in passes; raises ServeGraphError where these options do not go with it."""
    from serve_graph.cli.batch.passes.own_engines import OwnPasses
    from serve_graph.config.graph import load_config

    if options.config is None:
        raise ServeGraphError("--passes needs --config: the graph whose engines answer")
    if options.background:
        raise ServeGraphError("--background is for a running graph: passes have engines of their own")
    graph = load_config(options.config)
    folder, batches = options.out.absolute().parent, None
    if options.provider_batches:
        from serve_graph.cli.batch.passes.provider_passes import BatchedPassTerms
        from serve_graph.cli.batch.providers.batched_tiers import check_batched

        tiers, poll_s = check_batched(graph, options.interactive), options.poll_s
        batches = BatchedPassTerms(tiers, poll_s, min(2.0, poll_s), options.concurrency)
    return OwnPasses(
        graph, options.settings, folder, batch_size, records=options.records,
        batches=batches, max_num_seqs=max_num_seqs,
    )  # fmt: skip
