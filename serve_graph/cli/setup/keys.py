"""`serve-graph keys …`: create, list and revoke access keys. A key is printed once, when it is created."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, check_out, columns, say, say_json
from serve_graph.errors import ConfigError

ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit log.")]
app = typer.Typer(help="Manage access keys and their limits.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The key's name in records and bills.")],
    scope: Annotated[list[str] | None, typer.Option(help="use, force or admin; may be repeated.")] = None,
    requests_per_min: Annotated[int | None, typer.Option(min=1, help="Requests per minute; default: any.")] = None,
    tokens_per_min: Annotated[
        int | None, typer.Option(min=1, help="Prompt and completion tokens per minute; default: any.")
    ] = None,
    usd_per_day: Annotated[str | None, typer.Option(help="Budget in US dollars per UTC day.")] = None,
    usd_per_month: Annotated[str | None, typer.Option(help="Budget in US dollars per UTC month.")] = None,
    quality_floor: Annotated[
        float | None, typer.Option(min=0, max=1, help="The least that a certificate must promise of its answers.")
    ] = None,
    escalations_per_h: Annotated[int | None, typer.Option(min=1, help="Escalated requests per hour.")] = None,
    max_quality_floor: Annotated[
        float | None, typer.Option(min=0, max=1, help="The highest floor that a request may ask for.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer that a request may ask for.")
    ] = None,
    max_choices: Annotated[int | None, typer.Option(min=1, help="The largest `n` that a request may ask for.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests in progress per ingress replica.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="name=value: metadata of all its requests; may be repeated.")
    ] = None,
    reason: ReasonOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Create a key and print it once. Example: serve-graph keys new team-a --scope use --usd-per-day 5"""
    from pydantic import ValidationError

    from serve_graph.access.keys import key_hash, locked, new_key, read_keys, refuse_doubles, write_keys
    from serve_graph.config.access import KeyConfig
    from serve_graph.config.graph import load_config
    from serve_graph.records import audit

    graph = load_config(config)
    check_out(graph.keys_file)
    secret = new_key()
    fields: dict[str, Any] = {
        "name": name,
        "sha256": key_hash(secret),
        "scopes": tuple(scope or ["use"]),
        "requests_per_min": requests_per_min,
        "tokens_per_min": tokens_per_min,
        "usd_per_day": _dollars(usd_per_day, "--usd-per-day"),
        "usd_per_month": _dollars(usd_per_month, "--usd-per-month"),
        "quality_floor": quality_floor,
        "escalations_per_h": escalations_per_h,
        "max_quality_floor": max_quality_floor,
        "max_tokens": max_tokens,
        "max_choices": max_choices,
        "concurrency": concurrency,
        "labels": dict(map(_label, label or ())),
    }
    try:
        key = KeyConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    with locked(graph.keys_file):
        keys = (*read_keys(graph.keys_file), key)
        refuse_doubles((*graph.access.keys, *keys))
        write_keys(graph.keys_file, keys)
    terms = key.model_dump(mode="json", exclude={"name", "sha256"}, exclude_none=True)
    audit.record(graph, audit.operator(), "keys.create", name, reason, terms)
    if as_json:
        return say_json({"name": name, "key": secret, "file": str(graph.keys_file)})
    say(secret)
    return typer.echo(f"key {name!r} is in {graph.keys_file}; the line above is not shown again", err=True)


@app.command(name="list")
def list_keys(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List names, scopes and limits, never the keys. Example: serve-graph keys list"""
    from serve_graph.access.keys import read_keys
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    keys = (*graph.access.keys, *read_keys(graph.keys_file))
    if as_json:
        return say_json([key.model_dump(exclude={"sha256"}) for key in keys])
    if not keys:
        return say("no keys: the endpoint serves clients on this machine only")
    rows = [["name", "scopes", "requests/min", "tokens/min", "$/day", "$/month", "quality floor", "at most"]]
    for key in keys:
        limits = (key.requests_per_min, key.tokens_per_min, key.usd_per_day, key.usd_per_month, key.quality_floor)
        most = ", ".join(f"{name} {limit:g}" for name, limit in key.bounds.items() if limit is not None) or "-"
        shown = ("-" if limit is None else str(limit) for limit in limits)
        rows.append([key.name, ", ".join(key.scopes), *shown, most])
    return say(columns(rows))


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    reason: ReasonOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Remove a key from the file; a running graph notices within seconds. Example: serve-graph keys revoke team-a"""
    from serve_graph.access.keys import locked, read_keys, write_keys
    from serve_graph.config.graph import load_config
    from serve_graph.records import audit

    graph = load_config(config)
    check_out(graph.keys_file)
    with locked(graph.keys_file):
        keys = read_keys(graph.keys_file)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise ConfigError(f"no key {name!r} in {graph.keys_file}")
        write_keys(graph.keys_file, left)
    audit.record(graph, audit.operator(), "keys.revoke", name, reason)
    say(f"revoked {name}; {len(left)} key(s) left")


def _label(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not name or not given:
        raise typer.BadParameter(f"a label is name=value, got {text!r}", param_hint="--label")
    return name, value


def _dollars(text: str | None, option: str) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not an amount", param_hint=option) from None
