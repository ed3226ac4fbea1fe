"""Reference pages from the code itself: configuration, HTTP, command line, errors; and lists of pages in a folder."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

DECISIONS = """What was tried, measured and decided, failed ideas included. A page is added, never rewritten: where a
later decision replaces an earlier one, it says so."""
RESULTS = """What was measured, each page with the command that made it, the date and the machine. None of these
figures is a promise about your traffic: a [certificate](../concepts/certificate.md) is."""
NOTE = "\n*Generated from the code of this release.*\n"


def configuration() -> str:
    """Every section of a configuration file, with its keys, types, defaults, bounds and meaning."""
    from serve_graph.config.graph import GraphConfig

    intro = """# Configuration

One YAML file. Unknown keys are refused, by name. `${NAME}` inside a string is replaced by an environment variable, for
secrets and paths. Every key is optional unless it says **required**. Starting points: `configs/*.yaml`,
`serve-graph init`; what tiers can do is in the [guide](../guides/tiers.md).
"""
    parts = [_section(model, path) for model, path in _models(GraphConfig)]
    return "\n".join([intro + NOTE, *parts])


def _models(root: Any) -> Iterator[tuple[Any, str]]:
    """Every model that can be reached, each once, with a path where it stands."""
    waiting, seen = [(root, "")], set()
    while waiting:
        model, path = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield model, path
        for name, field in model.model_fields.items():
            many = "[]" if "tuple" in str(field.annotation) or "list" in str(field.annotation) else ""
            inside = f"{path}.{name}{many}".lstrip(".")
            waiting += [(sub, inside) for sub in _inner(field.annotation)]


def _inner(annotation: Any) -> list[Any]:
    if inspect.isclass(annotation) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in get_args(annotation) for found in _inner(part)]


def _section(model: Any, path: str) -> str:
    title = f"`{path}`" if path else "The file"
    engine = model.model_fields.get("engine")
    kind = get_args(engine.annotation)[0] if engine and get_args(engine.annotation) else None
    heading = f"## {title}" + (f", engine `{kind}`" if kind else "")
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "**required**" if field.is_required() else _default(field)
        bounds = ", ".join(str(m) for m in field.metadata if type(m).__name__ in ("Ge", "Gt", "Le", "Lt"))
        bounds = re.sub(r"\b(Ge|Gt|Le|Lt)\(\w+=([^)]*)\)", lambda m: f"{SIGNS[m[1]]} {m[2]}", bounds)
        shown = _type(field.annotation) + (f", {bounds}" if bounds else "")
        rows.append(f"| `{name}` | {shown} | {default} | {_cell(field.description or '')} |")
    return f"{heading}\n\n{_prose(model.__doc__)}\n\n" + "\n".join(rows) + "\n"


SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if hasattr(type(value), "model_fields"):
        changed = value.model_dump(mode="json", exclude_defaults=True)
        return "as below" if not changed else f"`{json.dumps(changed)}`".replace('"', "")
    if value is None or isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    return f"`{json.dumps(list(value)) if isinstance(value, tuple) else value}`"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is not None and str(get_origin(annotation)).endswith("Literal"):
        return " \\| ".join(f"`{value}`" for value in get_args(annotation))
    args = [arg for arg in get_args(annotation) if arg is not Ellipsis]
    if get_origin(annotation) in (Union, type(int | str)):
        return " or ".join(dict.fromkeys("null" if arg is type(None) else _type(arg) for arg in args))
    if get_origin(annotation) in (tuple, list):
        return f"list of {_type(args[0])}"
    if get_origin(annotation) is dict:
        return f"mapping to {_type(args[1])}"
    if args:  # Annotated
        return _type(args[0])
    if inspect.isclass(annotation) and hasattr(annotation, "model_fields"):
        return "section"
    names = {"str": "text", "int": "whole number", "float": "number", "Decimal": "number", "bool": "true or false"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, {"Path": "path", "Any": "anything", "AwareDatetime": "date and time"}.get(name, name))


def http() -> str:
    """The routes, from the OpenAPI document that the endpoint itself serves at /openapi.json."""
    document = _openapi()
    parts = [
        """# HTTP

The body of requests and replies keeps OpenAI's shape; a running graph serves the whole document, schemas included, at
`/openapi.json`. What the fields mean is in the [guide](../guides/requests.md). Every generated reply has the headers
`x-serve-graph-decision`, `-tier`, `-outcome`, `-version` and `-cost-usd`, and the same as a `serve_graph` object.
"""
        + NOTE
    ]
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"## `{method.upper()} {path}`\n\n{operation.get('description') or operation['summary']}\n")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body:
                parts.append(_fields(body, schemas))
            parts.append("| status | reply |\n|---|---|")
            for status, reply in sorted(operation["responses"].items()):
                shapes = [s.get("schema", {}).get("$ref", kind) for kind, s in reply.get("content", {}).items()]
                named = ", ".join(f"`{shape.rsplit('/', 1)[-1]}`" for shape in shapes if shape)
                parts.append(f"| {status} | {reply.get('description', '')}{': ' + named if named else ''} |")
            parts.append("")
    return "\n".join([*parts, _handling()])


def _handling() -> str:
    """What becomes of every request field, by endpoint and kind of engine."""
    from serve_graph.protocol.fields import ENGINE_KINDS, TABLES

    parts = [
        """## What becomes of request fields

By the engine of the tier that answers: `openai` is a hosted API. *Forwarded*: as it was sent, an API gets nulls too;
*translated*: see the note; *consumed*: used or noted here, not sent to the engine; *refused*: 400, unless it is null.
Fields that are not listed: `policy.unknown_fields`.
"""
    ]
    for path, table in TABLES.items():
        parts.append(
            f"### `{path}`\n\n| field | {' | '.join(ENGINE_KINDS)} | |\n|---|{'---|' * len(ENGINE_KINDS)}---|"
        )
        for row in table.values():
            cells = " | ".join(row.handling[kind] for kind in ENGINE_KINDS)
            parts.append(f"| `{row.name}` | {cells} | {row.note} |")
        parts.append("")
    return "\n".join(parts)


def _fields(body: dict[str, Any], schemas: dict[str, Any]) -> str:
    name = body["$ref"].rsplit("/", 1)[-1]
    schema = schemas[name]
    required = set(schema.get("required", ()))
    shown = [f"`{field}`{' (required)' if field in required else ''}" for field in schema.get("properties", {})]
    return f"Body `{name}`: {', '.join(shown)}.\n"


def _openapi() -> dict[str, Any]:
    from serve_graph.api.batches.files import BatchParts
    from serve_graph.api.http import Backend, build_http
    from serve_graph.cascade.fakes import FakeEmbedder, ListSink, fake_context
    from serve_graph.gateway.handler import Service
    from serve_graph.learning.feedback import FeedbackIntake
    from serve_graph.records.batches.batches_table import BatchesTable
    from serve_graph.records.batches.file_storage import FileStorage
    from serve_graph.records.batches.files_table import FilesTable
    from serve_graph.records.store import DecisionStore

    async def nothing(*_: Any) -> Any:
        return None

    service = Service(fake_context(embedder=FakeEmbedder()), ListSink())
    store, feedback = DecisionStore("sqlite+aiosqlite://"), FeedbackIntake(nothing, ListSink().write)
    batches = BatchParts(FilesTable(store), BatchesTable(store), FileStorage("files"))
    document: dict[str, Any] = build_http(
        Backend(service, nothing, nothing, nothing, nothing, 4096, feedback=feedback, batches=batches)
    ).openapi()
    return document


def cli() -> str:
    """Every command with its help, arguments and options."""
    import typer.main

    from serve_graph.cli import app

    parts = [
        """# Command line

`serve-graph COMMAND --help` prints the same. Exit codes: 0, 1 (it failed: one line on standard error says why), 2
(wrong use). Commands that print a result take `--json`.
"""
        + NOTE
    ]
    for words, command in _commands(typer.main.get_command(app), ["serve-graph"]):
        usage = " ".join([*words, *(_argument(p) for p in command.params if p.param_type_name == "argument")])
        parts.append(f"## `{' '.join(words)}`\n\n```\n{usage} [OPTIONS]\n```\n\n{_prose(command.help or '')}\n")
        options = [p for p in command.params if p.param_type_name == "option"]
        if options:
            parts.append("| option | | default |\n|---|---|---|")
            parts += [_option(option) for option in options]
            parts.append("")
    return "\n".join(parts)


def _commands(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from _commands(sub, [*words, name])
    else:
        yield words, command


def _argument(parameter: Any) -> str:
    name = parameter.name.upper()
    return f"{name}..." if parameter.nargs == -1 else name if parameter.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    default = "" if option.default in (None, False, ()) else f"`{option.default}`"
    return f"| {names} | {_cell(option.help or '')} | {'**required**' if option.required else default} |"


def metrics() -> str:
    """Every metric of /metrics with its type and help, as a page that has just begun shows them."""
    from serve_graph.access.budgets import Spending
    from serve_graph.cluster.batches.batch_metrics import BatchMetrics
    from serve_graph.cluster.replicas.budget_metrics import BudgetMetrics
    from serve_graph.cluster.rollouts.rollout_metrics import RolloutMetrics
    from serve_graph.config.learning import TicketsConfig
    from serve_graph.learning.comparing.comparison_metrics import ComparisonMetrics
    from serve_graph.learning.golden.golden_metrics import GoldenMetrics
    from serve_graph.learning.judging.ensemble.ensemble_metrics import EnsembleMetrics
    from serve_graph.learning.judging.judge_metrics import JudgeMetrics
    from serve_graph.learning.traffic.tickets import TicketWatch
    from serve_graph.policy.catalogue_watch import CatalogueMetrics
    from serve_graph.records.metrics import RequestMetrics, render_metrics
    from serve_graph.records.store import DecisionStore

    tickets = TicketWatch(DecisionStore("sqlite+aiosqlite://"), TicketsConfig(), lambda: "")
    beside = (
        JudgeMetrics(),
        EnsembleMetrics(),
        ComparisonMetrics(),
        RolloutMetrics(),
        GoldenMetrics(),
        tickets,
        BudgetMetrics(Spending(), tuple),
        BatchMetrics(),
        CatalogueMetrics(),
    )
    text = render_metrics(RequestMetrics(), 0, {}, certificates={"answers": 0.0}, others=beside)
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    rows = [f"| `{name}` | {kinds[name]} | {_cell(helps[name])} |" for name in sorted(helps)]
    return f"""# Metrics

`/metrics` in Prometheus' text format (an admin key's, where there are keys). Every ingress replica counts what it
answered; whichever is asked adds up all of them, those that are gone included
([several nodes](../operate/cluster.md#metrics)).
Engines' own counters are added as `serve_graph_engine_*`, by tier: vLLM's under its names without `vllm:`, and
of admission and hosted deployments `in_flight`, `queued`, `refused`, `deployment_calls`, `deployment_failures`,
`deployment_throttled_total`.
{NOTE}
| metric | type | meaning |
|---|---|---|
""" + "\n".join(rows)


def errors() -> str:
    """Exceptions, the HTTP status and type each becomes, and what it means."""
    from serve_graph.errors import STATUS

    rows = [
        f"| {status} | `{kind}` | `{error.__name__}` | {_cell((inspect.getdoc(error) or '').split(chr(10) * 2)[0])} |"
        for error, (status, kind) in sorted(STATUS.items(), key=lambda item: (item[1][0], item[0].__name__))
    ]
    return f"""# Errors

Every failure has OpenAI's shape: `{{"error": {{"message", "type", "param", "code"}}}}`. 429, 503 and 504 carry
`Retry-After`. A stream that has begun ends with an error event instead ([streaming](../guides/streaming.md)). What to
do about the common ones: [troubleshooting](../troubleshooting.md).
{NOTE}
| status | `type` | exception | meaning |
|---|---|---|---|
""" + "\n".join(rows)


def index(title: str, folder: Path, about: str) -> str:
    """A list of the pages in a folder by their headings, with the date each one names first."""
    rows = []
    for path in sorted(folder.rglob("*.md"), key=lambda path: path.name):
        text = path.read_text(encoding="utf-8")
        number = re.match(r"\d{4}", path.name)
        heading = re.sub(r"^\d{4}:? ", "", text.split("\n", 1)[0].lstrip("# "))
        heading = f"{number[0]}: {heading[:1].upper()}{heading[1:]}" if number else heading
        date = re.search(r"\b20\d\d-\d\d-\d\d\b", text)
        rows.append(f"| [{heading}]({path.relative_to(folder).as_posix()}) | {date[0] if date else ''} |")
    return f"# {title}\n\n{about}\n\n| page | measured |\n|---|---|\n" + "\n".join(rows) + "\n"


def _prose(text: str | None) -> str:
    """A docstring as Markdown paragraphs; an example is a block of code."""
    clean = inspect.cleandoc(text or "").replace("\b\n", "")
    return re.sub(r"\s*Example: (serve-graph .+?)\s*$", r"\n\n```\n\1\n```", clean, flags=re.DOTALL)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
