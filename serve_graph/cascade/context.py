"""What the cascade works with: engines, router, verifier, prices, and the policy one request is answered under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from router_models.estimators.questions.terms import USUAL_QUESTIONS, AskedSettings
from router_models.types.coverage import Uncovered
from router_models.versions.policy import Policy
from serve_graph.cascade.billing import Prices
from serve_graph.cascade.certificate import HOLDS, CertificateSnapshot
from serve_graph.cascade.deadline import NEVER, Deadline
from serve_graph.cascade.interfaces import Constraints, Decider, Embedder, Engine, Ensemble, Judge, StreamingEngine


@dataclass(frozen=True, slots=True)
class AskedTerms:
    """What is asked for before an answer is judged (`asked.with_signals`).

    `by_tier`: the signals that the version reads of a tier's answers; `first`: those that it asks the cheapest tier,
    `cheapest`, for before it chooses one (`asked.with_first_signals`). `last`: who is asked for the last tier's word.
    `engines`: who is called; `settings`: how it is asked; `timeout_s`: how long all calls about one answer may take,
    which are made at once.
    """

    by_tier: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    last: str = ""
    engines: Mapping[str, Engine] = field(default_factory=dict)
    settings: AskedSettings = USUAL_QUESTIONS
    timeout_s: float = 5.0
    first: tuple[str, ...] = ()
    cheapest: str = ""


@dataclass(frozen=True, slots=True)
class CascadeContext:
    """What the cascade works with. `policy` is the served version's thresholds, for what needs no score.

    `constraints` and all after it belong to one request: a context that all requests share has a certificate that
    holds for ever and no deadline. Why nothing is promised of the request, whoever answers: `unmeasured` (router and
    verifier do not see all of it), `uncovered` (it is unlike the rows that were certified), `set_apart` (it is not
    answered as they were). `longest_answer`: the tokens that a cheap answer may have, where the request permits more
    than was certified. `ensemble`: who has two tiers answer this request, None: the router decides. `asked`, the
    graph's own again: what answers are judged by beside themselves.
    """

    engines: Mapping[str, Engine]
    streams: Mapping[str, StreamingEngine]
    decider: Decider
    judge: Judge
    policy: Policy
    prices: Prices
    safe_tier: str
    version: str
    router_usd_per_s: Decimal = Decimal(0)
    verifier_usd_per_s: Decimal = Decimal(0)
    embedders: Mapping[str, Embedder] = field(default_factory=dict)
    constraints: Constraints | None = None
    deadline: Deadline = NEVER
    certificate: CertificateSnapshot = HOLDS
    quality_floor: float | None = None
    forbids_abstaining: bool = False
    unmeasured: str | None = None
    uncovered: Uncovered | None = None
    set_apart: str | None = None
    longest_answer: int | None = None
    asked: AskedTerms = AskedTerms()
    ensemble: Ensemble | None = None
