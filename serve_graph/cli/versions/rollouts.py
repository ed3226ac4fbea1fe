"""`versions canary`, `shadow`, `pause`, `resume`, `set-weight`, `abort`: a version tried beside the stable one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from serve_graph.cli.decisions import STORE
from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, say, say_json
from serve_graph.cli.versions.found import Number, found_version
from serve_graph.errors import ServeGraphError, StoreUnavailableError

if TYPE_CHECKING:
    from serve_graph.config.graph import GraphConfig
    from serve_graph.policy.rollout import Rollout, RolloutTable
    from serve_graph.policy.rollout.transitions import Happened

T = TypeVar("T")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
USUAL_MINIMUM = 30
SAYS_WITHIN_S = 5.0
"""How long a command waits for what it only mentions."""
RateOption = Annotated[float, typer.Option(help="Share of requests that both versions decide.", min=0, max=1)]
RolloutReason = Annotated[str, typer.Option(help="Why, in a sentence; it is kept in the audit log.")]


@needs("versions canary", *STORE)
def canary(
    version: Number,
    steps: Annotated[str, typer.Option(help="Percent of traffic, step by step.")] = "1,5,25,50,100",
    pause: Annotated[str, typer.Option(help="What every step takes at least: 90s, 10m, 2h.")] = "10m",
    minimum: Annotated[
        int | None,
        typer.Option(help="Requests that every step has both versions decide; 30 if left out, 0 at --rate 0.", min=0),
    ] = None,
    rate: RateOption = 0.1,
    reason: RolloutReason = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Give an approved version a growing share of traffic; evidence promotes it or takes it back.

    Whoever asks again (by session, else access key, else prompt) is answered by the same version.

    Example: serve-graph versions canary 3 --steps 1,5,25,50,100 --pause 10m
    """
    try:
        percents = tuple(float(step) for step in steps.split(","))
    except ValueError:
        raise ServeGraphError(f"--steps {steps!r}: give percents, such as 1,5,25,50,100") from None
    least = minimum if minimum is not None else USUAL_MINIMUM if rate else 0
    _begin(version, config, percents, duration_s(pause), least, rate, reason, as_json)


@needs("versions shadow", *STORE)
def shadow(
    version: Number,
    rate: RateOption = 0.1,
    reason: RolloutReason = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Have a version decide on a share of requests without answering any. It needs no approval.

    Example: serve-graph versions shadow 3 --rate 0.05
    """
    _begin(version, config, (), 0.0, 0, rate, reason, as_json)


@needs("versions pause", *STORE)
def pause_rollout(
    reason: RolloutReason = "", config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Leave the share where it is until `resume`; evidence against the version still takes it back.

    Example: serve-graph versions pause --reason "a release of the app is under way"
    """
    from serve_graph.policy.rollout.transitions import Happened

    _move(config, Happened.PAUSE, reason, as_json)


@needs("versions resume", *STORE)
def resume_rollout(
    reason: RolloutReason = "", config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Go on with the next step that is no less than the share; its pause begins anew.

    Example: serve-graph versions resume
    """
    from serve_graph.policy.rollout.transitions import Happened

    _move(config, Happened.RESUME, reason, as_json)


@needs("versions abort", *STORE)
def abort_rollout(
    reason: RolloutReason = "", config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """End a canary or shadow: the stable version answers everything again.

    Example: serve-graph versions abort --reason "callers complain"
    """
    from serve_graph.policy.rollout.transitions import Happened

    _move(config, Happened.ABORT, reason, as_json)


@needs("versions set-weight", *STORE)
def set_weight(
    percent: Annotated[float, typer.Argument(help="The canary's share of traffic, in percent.")],
    reason: RolloutReason = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Give the canary this share of traffic and pause it there. Example: serve-graph versions set-weight 10"""
    from serve_graph.policy.rollout.transitions import Happened

    _move(config, Happened.SET_WEIGHT, reason, as_json, percent / 100)


def duration_s(text: str) -> float:
    """Return the seconds of `90s`, `10m`, `2h` or `600`; raises ServeGraphError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if found is None:
        raise ServeGraphError(f"{text!r} is no duration: give 90s, 10m or 2h")
    return float(found[1]) * UNITS[found[2]]


def of_rollouts(graph: GraphConfig, ask: Callable[[RolloutTable], Awaitable[T]], within_s: float | None = None) -> T:
    """Ask the table of rollouts in a graph's store; raises StoreUnavailableError, TimeoutError after `within_s`."""
    from serve_graph.policy.rollout import RolloutTable
    from serve_graph.records.store import DecisionStore

    async def asked() -> T:
        store = DecisionStore(graph.records_url)
        try:
            async with asyncio.timeout(within_s):
                return await ask(RolloutTable(store))
        finally:
            await store.close()

    graph.state_folder.resolve().mkdir(parents=True, exist_ok=True)  # of a first store
    return asyncio.run(asked())


def move_by_person(graph: GraphConfig, what: Happened, reason: str, weight: float | None = None) -> Rollout:
    """Do to the rollout that goes on what whoever runs this command wants; raises ServeGraphError."""
    from serve_graph.policy.rollout.moves import move_rollout
    from serve_graph.policy.rollout.transitions import RolloutEvent
    from serve_graph.records.audit import operator

    event = RolloutEvent(what, _now(), operator(), reason.strip(), weight)
    return of_rollouts(graph, lambda table: move_rollout(table, graph.policy.model_name, event))


def step_fault(graph: GraphConfig, model: str, candidate: str, weight: float = 0.0) -> str | None:
    """Why a version could not have all traffic, by its rollouts and live traffic; None where nothing says so."""
    from serve_graph.policy.rollout.step_check import StepCheck

    async def asked(table: RolloutTable) -> str | None:
        check, now = StepCheck(graph, table.store), datetime.now(UTC)
        tried = [replace(one, weight=weight) for one in await table.latest(model) if one.candidate == candidate]
        for one in tried:
            if (why := await check.fault(one, 1.0, now)) is not None:
                return why
        return None

    try:
        return of_rollouts(graph, asked, SAYS_WITHIN_S)
    except (StoreUnavailableError, TimeoutError):
        return None


def rollout_line(rollout: Rollout) -> str:
    """A rollout in one line: `canary of router/3 beside router/2: Progressing, 5 % of traffic, step 2 of 5`."""
    line = f"{rollout.kind} of {rollout.candidate} beside {rollout.stable}: {rollout.state}"
    if rollout.kind == "canary":
        line += f", {100 * rollout.weight:g} % of traffic, step {rollout.step + 1} of {len(rollout.steps)}"
    return line + (f": {rollout.reason}" if rollout.reason else "")


def _begin(
    version: str,
    config: Path,
    steps: tuple[float, ...],
    pause_s: float,
    minimum: int,
    rate: float,
    reason: str,
    as_json: bool,
) -> None:
    from router_models.versions.registry import find_version
    from serve_graph.policy.rollout import Rollout
    from serve_graph.policy.rollout.audited import begun_entry
    from serve_graph.policy.rollout.candidate import candidate_version
    from serve_graph.records.audit import operator

    found, graph = found_version(version, config)
    _check_follows(graph)
    if graph.policy.share is not None:
        raise ServeGraphError(
            f"policy.share {graph.policy.share:g} decides who answers, not the thresholds that would be tried: take "
            "it out of the configuration first"
        )
    stable = find_version(graph.registry_uri, found.model, graph.policy.version)
    if stable is None:
        alias = graph.policy.version
        raise ServeGraphError(f"{found.model} has no {alias!r} yet to try {found.name} beside: `versions promote` it")
    try:
        rollout = Rollout.begin(
            found.model, stable.name, found.name, at=_now(), by=operator(), reason=reason.strip(),
            steps=steps, pause_s=pause_s, minimum=minimum, rate=rate,
        )  # fmt: skip
    except ValueError as error:
        raise ServeGraphError(str(error)) from error
    served = candidate_version(graph, found, is_shadow=not steps)
    if served.version is None:
        raise ServeGraphError(f"{found.name} cannot be tried: {served.reason}")
    entry = begun_entry(rollout)
    if not of_rollouts(graph, lambda table: table.begin(rollout, entry)):
        now = of_rollouts(graph, lambda table: table.active(found.model))
        which = "another rollout" if now is None else f"the {rollout_line(now)}"
        raise ServeGraphError(f"{which} is under way; `serve-graph versions abort` ends it")
    _say(rollout, as_json)
    if steps and (fault := step_fault(graph, found.model, found.name)) is not None:
        typer.echo(f"it will be paused before it has all traffic, as things are: {fault}", err=True)


def _check_follows(graph: GraphConfig) -> None:
    """Raise ServeGraphError where a graph of this configuration would never look at a rollout."""
    policy = graph.policy
    if policy.version in ("none", "builtin") or policy.version.isdigit():
        raise ServeGraphError(
            f"policy.version is {policy.version!r}: rollouts are of graphs that follow an alias, such as `stable`"
        )
    if policy.follow_s is None:
        raise ServeGraphError("policy.follow_s is null: a graph that does not follow the registry tries no version")


def _move(config: Path, what: Happened, reason: str, as_json: bool, weight: float | None = None) -> None:
    from serve_graph.config.graph import load_config

    _say(move_by_person(load_config(config), what, reason, weight), as_json)


def _say(rollout: Rollout, as_json: bool) -> None:
    if as_json:
        return say_json(rollout.shown())
    say(rollout_line(rollout))
    return say("a running graph does so within seconds, one that does not run at its next start")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
