"""What watches versions, promises and engines: rollouts, alarms, tickets, golden tasks, judges, speculation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from serve_graph.api.console.pages import PageReply, page
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.console.signing_in import form_values
from serve_graph.learning.agreement import JudgeAgreement, judge_agreements
from serve_graph.learning.alarm_table import AlarmTable
from serve_graph.learning.comparing.tally import tally_sentences
from serve_graph.learning.golden.run_table import GoldenTable
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.records.feedback import Feedback, FeedbackTable

MOST_ALARMS, MOST_ROLLOUTS, MOST_RUNS = 100, 10, 20
_DRAFTED, _ACCEPTED, _DRAFTS, _BY_POSITION = (
    f"vllm:spec_decode_num_{name}"
    for name in ("draft_tokens_total", "accepted_tokens_total", "drafts_total", "accepted_tokens_per_pos_total")
)


@dataclass(frozen=True, slots=True)
class SpeculationShare:
    """How much of what a tier's draft model proposed was taken, since its engine started.

    `by_position`: the share of drafts whose first, second, … token was taken.
    """

    tier: str
    drafted: int
    accepted: int
    by_position: tuple[float, ...]

    @property
    def share(self) -> float | None:
        """Accepted tokens by proposed ones."""
        return self.accepted / self.drafted if self.drafted else None


def speculation_shares(counters: Mapping[str, Mapping[str, float]]) -> list[SpeculationShare]:
    """Return the tiers that speculate, by their engines' own counters."""
    found = []
    for tier, values in counters.items():
        if _DRAFTED not in values:
            continue
        drafts = values.get(_DRAFTS, 0.0)
        positions = sorted(
            (int(name[len(_BY_POSITION) + 1 : -1]), value)
            for name, value in values.items()
            if name.startswith(f"{_BY_POSITION}[") and name[len(_BY_POSITION) + 1 : -1].isdigit()
        )
        shares = tuple(value / drafts for _, value in positions) if drafts else ()
        found.append(SpeculationShare(tier, int(values[_DRAFTED]), int(values.get(_ACCEPTED, 0.0)), shares))
    return found


def agreement_rows(labels: list[Feedback]) -> list[tuple[JudgeAgreement, Any, Any]]:
    """Return each judge beside people, with the intervals of agreement and of Cohen's kappa."""
    return [(one, one.agree(), one.kappa()) for one in judge_agreements(labels)]


async def show_signals(request: Request, parts: ConsoleParts) -> Response:
    """Rollouts, alarms that stand and were lifted, the tests of the promise, golden tasks, judges, speculation."""
    served = parts.served()
    model = served.name.rpartition("/")[0]
    rollouts = await RolloutTable(parts.store).latest(model, MOST_ROLLOUTS) if model else []
    tickets = await AlarmTable(parts.store, tickets=True).all()
    alarms = await AlarmTable(parts.store).all()
    standing = [alarm for alarm in alarms if alarm.lifted_at is None]
    labels = await FeedbackTable(parts.store).labels_beside_people()
    values = {
        "standing": standing[:MOST_ALARMS],
        "lifted": [alarm for alarm in alarms if alarm.lifted_at is not None][:MOST_ALARMS],
        "served": served,
        "rollouts": rollouts,
        "compared": tally_sentences,
        "tickets": [ticket for ticket in tickets if ticket.lifted_at is None][:MOST_ALARMS],
        "golden": await GoldenTable(parts.store).latest(limit=MOST_RUNS),
        "watch": parts.watch(),
        "judges": await asyncio.to_thread(agreement_rows, labels),
        "speculation": speculation_shares(await parts.counters()),
    }
    return PageReply(page("signals", "/console/signals", **values, **form_values(request, parts)))
