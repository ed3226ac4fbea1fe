"""What the console's pages need of the graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_graph.access.console.open_forms import OpenForms
from serve_graph.access.console.sessions import ConsoleSessions
from serve_graph.access.refusals import RefusalDelays
from serve_graph.gateway.handler import Service
from serve_graph.learning.feedback import FeedbackIntake
from serve_graph.policy.served_policy import ServedPolicy

if TYPE_CHECKING:
    from serve_graph.records.audit_log import AuditLog
    from serve_graph.records.store import DecisionStore

Counters = Mapping[str, Mapping[str, float]]


async def _none() -> Counters:
    return {}


@dataclass(frozen=True)
class ConsoleParts:
    """What the pages read, and where labels go.

    Parameters
    ----------
    sessions : ConsoleSessions
        Who is signed in.
    refusals : RefusalDelays
        What delays whoever is refused again and again.
    store : DecisionStore
        Decisions, feedback, alarms.
    service : Service
        The tiers and prices in force, and this replica's totals.
    served : callable
        The version that takes traffic.
    readiness : callable
        What `/readyz` tells administrators.
    audit : AuditLog, optional
        Where it is written down who reads what; None: nowhere.
    feedback : FeedbackIntake, optional
        What takes labels; None: there is no page for them.
    keeps_answers : bool
        Whether records hold prompts and answers, without which nobody can label.
    label_share : float
        The share of decisions that is up for labelling.
    counters : callable
        Each tier's own counters.
    watch : callable
        How far the tests of the promise are: `labels`, `errors`, `drift`, `revoked`.
    folder : callable
        The served version's files on this machine; None where there are none.
    now : callable
        The moment, with time zone.
    open_forms : OpenForms
        The sign-in forms that are being received.
    """

    sessions: ConsoleSessions
    refusals: RefusalDelays
    store: DecisionStore
    service: Service
    served: Callable[[], ServedPolicy]
    readiness: Callable[[], Awaitable[dict[str, Any]]]
    audit: AuditLog | None = None
    feedback: FeedbackIntake | None = None
    keeps_answers: bool = False
    label_share: float = 0.05
    counters: Callable[[], Awaitable[Counters]] = field(default=_none)
    watch: Callable[[], Mapping[str, float]] = field(default=dict)
    folder: Callable[[], Path | None] = field(default=lambda: None)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    open_forms: OpenForms = field(default_factory=OpenForms)
