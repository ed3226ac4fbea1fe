"""`bench`: load on a running endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serve_graph.cli.extras import needs
from serve_graph.cli.output import JsonOption, progress_to_stderr, say, say_json
from serve_graph.errors import ConfigError


@needs("bench", "httpx", "openai")
def bench(
    url: Annotated[str, typer.Option(help="The endpoint, without /v1.")] = "http://127.0.0.1:8000",
    requests: Annotated[int, typer.Option(help="How many requests at most.", min=1)] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=1024)] = 8,
    model: Annotated[str, typer.Option(help="auto, or a tier's name.")] = "auto",
    stream_share: Annotated[float, typer.Option(help="Share of requests that stream.", min=0, max=1)] = 0.5,
    stream_mode: Annotated[
        Literal["verify", "prefix", "route"] | None,
        typer.Option(help="How streams are committed: verify, prefix or route; default: the policy's."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="One prompt a line; default: the starter generator's.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Ask many questions at once; print throughput, latency and every status. Exit 1 where a reply was malformed.

    A graph with keys is shown the one in $SERVE_GRAPH_KEY.

    Latencies are the caller's. Quality is not measured here: `demo` and `evaluate` do that.

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
            raise ConfigError(f"{prompts} holds no prompt")
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
    """The figures as a few lines."""

    first = "".join(f"  {who + ':':<33}{_line(found)} s\n" for who, found in figures["first_byte_of"].items())
    counts = ", ".join(f"{name}: {n}" for name, n in figures["statuses"].items())
    outcomes = ", ".join(f"{name}: {n}" for name, n in figures["outcomes"].items())
    return (
        f"{figures['requests']} requests in {figures['seconds']} s: {figures['requests_per_s']}/s\n"
        f"latency p50 / p95 / p99:             {_line(figures['latency_s'])} s\n"
        f"first byte of streams, the same:     {_line(figures['first_byte_s'])} s\n"
        f"{first}statuses:  {counts}\n"
        f"outcomes:  {outcomes or 'none'}"
    )


def _line(found: dict[str, float] | None) -> str:
    return "none" if found is None else " / ".join(f"{found[q]:.3f}" for q in ("p50", "p95", "p99"))
