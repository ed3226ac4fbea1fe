"""Which requests two tiers answer, so that one answer is picked: drawn by chance, or asked for, and fit for it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from router_models.types import Query
from serve_graph.access.caller import Caller
from serve_graph.cascade.interfaces import Ensemble
from serve_graph.cascade.steps import StreamTerms
from serve_graph.config.judge import EnsembleConfig
from serve_graph.errors import RequestError
from serve_graph.gateway.capabilities.capable_tiers import CapableTiers
from serve_graph.gateway.capabilities.needs import named_needs, needs_of
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.context_length import prompt_tokens
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.promise import BOTH_ASKED
from serve_graph.gateway.request import DrawnForBoth, Request

NOT_BOTH = frozenset({"tools", "functions", "web_search_options", "audio", "prediction", "moderation"})
"""Parameters of requests whose answers act, or are no text: nobody can say which of two such answers is better."""


@dataclass(frozen=True, slots=True)
class EnsembleSample:
    """The sample of one graph.

    Parameters
    ----------
    config : EnsembleConfig
        Which share of which requests.
    tiers : tuple of str
        The two tiers.
    secret : bytes
        All replicas' own: who knows the ids alone cannot say which are drawn.
    ensemble : Ensemble
        Who answers drawn requests.
    most_usd : callable
        What a request may cost then at most, by the tier or model that is called.
    note_left_out : callable
        Told why a request that chance drew is not put to both tiers.
    """

    config: EnsembleConfig
    tiers: tuple[str, str]
    secret: bytes
    ensemble: Ensemble
    most_usd: Callable[[Query], Mapping[str, Decimal]]
    note_left_out: Callable[[str], None] = lambda why: None

    def draws(self, unit: str) -> bool:
        """Whether chance draws a request of this id: always the same answer for the same one."""
        digest = hmac.digest(self.secret, f"ensemble {unit}".encode("utf-8", "replace"), hashlib.sha256)
        return int.from_bytes(digest[:8], "big") < self.config.share * 2**64

    def meant(self, query: Query, resolved: ResolvedOptions, caller: Caller) -> bool:
        """Whether a request is to be answered by both: it asks for that, or is drawn and says nothing against it."""
        if resolved.ensemble is not None:
            return resolved.ensemble
        if not self.config.only.meant(caller.name, query.metadata):
            return False
        return self.draws(secrets.token_hex(16) if caller.request_id is None else f"{caller.name} {caller.request_id}")

    def fits(
        self,
        query: Query,
        resolved: ResolvedOptions,
        routing: RoutingContext,
        stream: StreamTerms | None,
        tool_loop: str | None,
    ) -> bool:
        """Whether two tiers can answer a request that is meant.

        Why they cannot is counted; RequestError where it asks for that. `stream`: when it is shown, None where it is
        wanted whole; `tool_loop`: the tier that holds its tool loop.
        """
        why = self._why_not(query, resolved, stream, tool_loop)
        if why is None and (fault := routing.certificate_status.snapshot().fault()) is not None:
            why = "revoked", f"the last tier answers everything: {fault}"
        if (why := why or self._not_of_both(query, routing)) is None:
            return True
        if resolved.ensemble:
            raise RequestError(f"serve_graph.ensemble: {why[1]}", "serve_graph", "invalid_value")
        self.note_left_out(why[0])
        return False

    def put(self, request: Request) -> None:
        """Have two tiers answer a request that fits; nothing is promised of it then."""
        context = request.context
        request.drawn = DrawnForBoth(self.config.share, request.resolved.ensemble is True)
        request.context = replace(context, ensemble=self.ensemble, set_apart=context.set_apart or BOTH_ASKED)

    def _why_not(
        self, query: Query, resolved: ResolvedOptions, stream: StreamTerms | None, tool_loop: str | None
    ) -> tuple[str, str] | None:
        """Why a request is not put to both, in a word for metrics and in full; None where it may be."""
        parameters = query.parameters
        if resolved.forced is not None:
            return "forced", f"the tier {resolved.forced!r} was asked for by name"
        if resolved.quality_floor is not None:
            return "quality_floor", "nothing is promised of an answer that is picked, and there is a quality floor"
        if resolved.cost_quality is not None:
            return "cost_quality", "a share of requests was asked for (cost_quality)"
        if resolved.latency_budget_s is not None:
            return "latency_budget", "two answers and a pick take longer than one, and there is a latency budget"
        if stream is not None and self.config.streams == "leave_out":
            return "stream", "a stream cannot show two answers, and streams are left out (policy.ensemble.streams)"
        if stream is not None and stream.first_token_s is not None:
            return "stream", "a stream that has to show something soon cannot wait for a pick (first_token_s)"
        if int(parameters.get("n") or 1) > 1:
            return "several", "several answers were asked for (n)"
        if (acts := next((name for name in sorted(NOT_BOTH) if parameters.get(name)), None)) is not None:
            return "tools", f"answers to a request with {acts} are not compared"
        sent = parameters.get("messages") or ()
        if tool_loop is not None or any(one.get("tool_calls") or one.get("tool_call_id") for one in sent):
            return "tools", "a conversation with tool calls stays on its tier"
        return None

    def _not_of_both(self, query: Query, routing: RoutingContext) -> tuple[str, str] | None:
        needs = needs_of(query)
        if needs.unseen:
            return "no text", f"whoever picks sees nothing of {named_needs(needs.unseen)}"
        capable = CapableTiers(self.tiers, routing.capabilities, needs)
        for tier in self.tiers:
            if lacking := capable.lacks(tier):
                return "capability", f"{tier} does not take {named_needs(lacking)}"
            if tier in routing.asleep.tiers:
                return "asleep", f"{tier} has no replica now"
            room = routing.rooms.get(tier)
            if room is not None and room.context_tokens is not None:
                tokens = prompt_tokens(query) + int(query.parameters.get("max_tokens") or room.default_max_tokens)
                if tokens > room.context_tokens:
                    return "context", f"prompt and answer may not fit {tier}'s context"
        return None


def meant_for_both(sample: EnsembleSample | None, query: Query, resolved: ResolvedOptions, caller: Caller) -> bool:
    """Whether two tiers are to answer a request; RequestError where it asks for that, and none do in this graph."""
    if sample is not None:
        return sample.meant(query, resolved, caller)
    if resolved.ensemble:
        message = "serve_graph.ensemble: both tiers answer in running graphs that declare `policy.ensemble` alone"
        raise RequestError(message, "serve_graph", "invalid_value")
    return False
