"""`train --from-decisions`: outcomes of served traffic, read from the decision store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from router_models.errors import by_number
from serve_graph.cli.client.replayed import HOW_TO_KEEP, store_url
from serve_graph.errors import ServeGraphError
from serve_graph.learning.kept_tasks import replayed_task
from serve_graph.learning.retraining.served_outcomes import SESSION as SESSION

if TYPE_CHECKING:
    from router_models.versions.router_version import RouterVersion
    from serve_graph.config.graph import GraphConfig
    from serve_graph.learning.judging.task_graders import TaskGraders
    from serve_graph.learning.retraining.served_answers import ServedDecision
    from serve_graph.learning.retraining.served_outcomes import ServedOutcomes
    from serve_graph.records.store import DecisionStore


@dataclass(frozen=True, slots=True)
class ServedWindow:
    """Which decisions are read: of a store, between two moments (ISO 8601, UTC), of a version, the newest so many.

    `source`: labels of this source alone count. `corrected`: whether training is weighted where it can be.
    """

    decisions: str | None = None
    since: str | None = None
    until: str | None = None
    version: str | None = None
    limit: int = 20_000
    source: str | None = None
    corrected: bool = True


def read_served_outcomes(graph: GraphConfig, window: ServedWindow) -> ServedOutcomes:
    """Read the outcomes of served traffic, and how they were chosen.

    Raises ServeGraphError where no prompt was kept, or nothing was graded of any.
    """
    from serve_graph.learning.judging.task_graders import TaskGraders
    from serve_graph.learning.retraining.selection import selection_of
    from serve_graph.learning.retraining.served_outcomes import served_outcomes
    from serve_graph.learning.retraining.served_prompts import served_prompts

    url = store_url(graph, window.decisions)
    try:
        found, left_out = asyncio.run(_read(url, graph, window))
    except OSError as error:
        raise ServeGraphError(f"the decision store cannot be reached: {error}") from error
    if not found:
        which = "" if window == ServedWindow(decisions=window.decisions) else " that was asked for"
        raise ServeGraphError(f"no record{which} holds a prompt, and outcomes are of prompts: {HOW_TO_KEEP}")
    if (programs := TaskGraders.read(graph.graders.tasks)) is not None:
        found = [graded_by_program(one, programs) for one in found]
    tiers, share = graph.tier_names, graph.feedback.label_share
    served = served_prompts(found, tiers, share, window.source)
    routed = {one.first.task.prompt_id for one in served}
    if forced := sum(one.task.prompt_id not in routed for one in found):
        left_out = {**left_out, "left out, as nobody but callers who named the tier asked them": forced}
    selection = selection_of(served, tiers, shares_tried(found, share), correct=window.corrected)
    if not selection.sources:
        of = "" if window.source is None else f" by {window.source}"
        raise ServeGraphError(
            f"{len(found)} {by_number(len(found), 'decision with its prompt', 'decisions with their prompts')}, and "
            f"not one grade{of} of an answer: label some "
            "(`decisions label`), have a judge grade a sample (docs/guides/learning/judge.md), or `collect "
            "--from-decisions`"
        )
    return served_outcomes(served, selection, tiers, left_out)


def graded_by_program(one: ServedDecision, programs: TaskGraders) -> ServedDecision:
    """A decision with grades of its answers, where its request is a known task."""
    from router_models.data.starter import grade

    task = programs.task_for(one.task.query)
    if task is None:
        return one
    return replace(one, programmed={tier: float(grade(task, made.text)) for tier, made in one.answers().items()})


def window_of(
    decisions: str | None,
    since: str | None,
    until: str | None,
    version: str | None,
    limit: int,
    source: str | None,
    *,
    corrected: bool,
) -> ServedWindow:
    """Read the options; raises ServeGraphError for a moment that is none, and for an unknown label source."""
    from router_models.types.label_sources import parsed_source
    from serve_graph.records.audit import moment_of

    try:
        moments = [None if text is None else moment_of(text) for text in (since, until)]
        named = None if source is None else parsed_source(source)
    except ValueError as error:
        raise ServeGraphError(f"--since, --until and --label-source: {error}") from error
    return ServedWindow(decisions, moments[0], moments[1], version, limit, named or None, corrected)


def served_table(graph: GraphConfig, window: ServedWindow, out: Path) -> ServedOutcomes:
    """Write the outcomes of served traffic to a table, note in the audit log who read prompts, and return them.

    Raises ServeGraphError where the table is there already, or there is nothing to write.
    """
    from router_models.data.outcomes import write_outcomes
    from serve_graph.cli.output import check_out
    from serve_graph.records import audit

    if out.exists():
        raise ServeGraphError(
            f"{out} exists; outcomes of traffic are never overwritten: choose another --out-outcomes"
        )
    check_out(out)
    found = read_served_outcomes(graph, window)
    detail = {"prompts": found.selection.prompts, "out": str(out)}
    audit.record(graph, audit.operator(), "decisions.prompts", "decisions", detail=detail)
    write_outcomes(out, found.outcomes)
    return found


def unweighted_parts(version: RouterVersion) -> list[str]:
    """The parts of a version that learned without weights, in words."""
    found = []
    for tier, stage in version.stages.items():
        if stage.router is not None and not stage.router.takes_weights:
            found.append(f"{tier}'s router {stage.router.family}")
        if not stage.verifier.takes_weights:
            found.append(f"{tier}'s verifier {stage.verifier.family}")
    return found


def shares_tried(found: Sequence[ServedDecision], label_share: float) -> list[float]:
    """The shares of decisions that may all have been graded: all, those up for labelling, and the judges' samples."""
    rates = {label.probability for one in found for label in one.labels if label.probability is not None}
    return [1.0, label_share, *([min(rates)] if rates else [])]


async def _read(url: str, graph: GraphConfig, window: ServedWindow) -> tuple[list[ServedDecision], Mapping[str, int]]:
    from serve_graph.records.comparisons import ComparisonsTable
    from serve_graph.records.feedback import FeedbackTable
    from serve_graph.records.store import DecisionStore

    left_out: Counter[str] = Counter()
    store = DecisionStore(url)
    try:
        found = [one async for one in _kept(store, graph, window, left_out)]
        names = [one.record.id for one in found]
        labels = await FeedbackTable(store).labels_on(names)
        compared = await ComparisonsTable(store).of(names)
    finally:
        await store.close()
    whole = [
        replace(one, labels=tuple(labels.get(one.record.id, ())), comparisons=tuple(compared.get(one.record.id, ())))
        for one in found
    ]
    return whole, left_out


async def _kept(
    store: DecisionStore, graph: GraphConfig, window: ServedWindow, left_out: Counter[str]
) -> AsyncIterator[ServedDecision]:
    from router_models.types import DECIDED_BY_NO_VERSION
    from serve_graph.learning.retraining.served_answers import ServedDecision

    n = 0
    kept = store.kept_prompts(forced=True, since=window.since, until=window.until)
    async with aclosing(kept) as records:
        async for record in records:
            decided = record.outcome not in DECIDED_BY_NO_VERSION
            if window.version is not None and record.version != window.version and decided:
                left_out["left out, of other versions"] += 1
                continue
            if record.tier not in (*graph.tier_names, "none"):
                left_out[f"left out, answered by {record.tier}, which the configuration does not have"] += 1
                continue
            if (task := replayed_task(record, left_out)) is None:
                continue
            yield ServedDecision(record, task, graph.tier_names[-1])
            n += 1
            if n >= window.limit:
                left_out["read, the newest: --limit reads more"] = n
                return
