"""`bench`: load test of a running endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from router_models.errors import by_number
from serve_graph.cli.extras import needs
from serve_graph.cli.output import JsonOption, progress_to_stderr, say, say_json
from serve_graph.errors import ConfigError


@needs("bench", "httpx", "openai")
def bench(
    url: Annotated[str, typer.Option(help="URL of the endpoint, without /v1.")] = "http://127.0.0.1:8000",
    requests: Annotated[int, typer.Option(help="Number of requests.", min=1)] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Requests in progress at a time.")] = 8,
    model: Annotated[str, typer.Option(help="auto, or the name of a tier.")] = "auto",
    stream_share: Annotated[float, typer.Option(help="Share of requests that stream, 0 to 1.", min=0, max=1)] = 0.5,
    stream_mode: Annotated[
        Literal["verify", "prefix", "route"] | None,
        typer.Option(help="When streams are committed: verify, prefix or route; default: as configured."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="File with one prompt per line; default: generated starter tasks.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer; default: the tier's.")] = None,
    seed: Annotated[int, typer.Option(help="Of generated prompts, and of which requests stream.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Send many requests at once; print throughput, latency and every status. Exit 1 if a reply was malformed.

    The key in $SERVE_GRAPH_KEY is sent, if it is set.

    Latencies are measured by the client. Quality is not measured; `demo` and `evaluate` do that.

    Example: serve-graph bench --requests 500 --concurrency 16
    """
    import asyncio

    from router_models.data.starter import generate
    from serve_graph.cli.client.api_key import key_headers
    from serve_graph.cli.client.bench import Load, run_load

    if prompts is None:
        texts = [task.prompt for task in generate(min(requests, 400), seed=seed)]
    else:
        try:
            texts = [line for line in prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read prompts from {prompts}: {error}") from error
        if not texts:
            raise ConfigError(f"{prompts} contains no prompt")
    load = Load(
        url.rstrip("/").removesuffix("/v1"),
        texts,
        requests,
        concurrency,
        model,
        stream_share,
        stream_mode,
        max_tokens=max_tokens,
        seed=seed,
        headers=key_headers(),
    )
    found = asyncio.run(run_load(load, progress_to_stderr()))
    figures = found.figures()
    say_json(figures) if as_json else say(render(figures))
    if found.malformed:
        say("malformed:\n" + "\n".join(found.malformed[:10]))
        raise typer.Exit(1)


def render(figures: dict[str, Any]) -> str:
    """Format the figures as a few lines."""

    first = "".join(f"  {tier + ':':<33}{_line(found)} s\n" for tier, found in figures["first_byte_of"].items())
    counts = ", ".join(f"{name}: {n}" for name, n in figures["statuses"].items())
    outcomes = ", ".join(f"{name}: {n}" for name, n in figures["outcomes"].items())
    return (
        f"{figures['requests']} {by_number(figures['requests'], 'request')} in {figures['seconds']} s: "
        f"{figures['requests_per_s']}/s\n"
        f"latency p50 / p95 / p99:             {_line(figures['latency_s'])} s\n"
        f"first byte of streams, the same:     {_line(figures['first_byte_s'])} s\n"
        f"{first}statuses:  {counts}\n"
        f"outcomes:  {outcomes or 'none'}"
    )


def _line(found: dict[str, float] | None) -> str:
    return "none" if found is None else " / ".join(f"{found[q]:.3f}" for q in ("p50", "p95", "p99"))
