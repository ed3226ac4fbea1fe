"""Which tiers take a request that needs more than text, and what becomes of a decision by that. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from router_models.types import Decision
from router_models.versions.policy import Policy
from serve_graph.config.tiers.tier import TierConfig
from serve_graph.errors import RequestError
from serve_graph.gateway.capabilities.needs import MODALITIES, TEXT_ONLY, Needs, in_words, named_needs
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.rules import raised, without_links

PARAMETERS: Mapping[str, str] = MappingProxyType(
    {"tools": "tools", "json_schema": "response_format", "reasoning": "reasoning_effort"}
)
"""The parameter of a request that asks for each capability."""


def capabilities_of(tiers: Sequence[TierConfig]) -> dict[str, frozenset[str]]:
    """What each tier of a configuration takes, as far as it says. The last one takes every modality unless it says:
    what no tier declares is its engine's to answer or to refuse, and never a cheaper tier's.
    """
    declared = {tier.name: tier.capabilities for tier in tiers}
    if tiers[-1].modalities is None:
        declared[tiers[-1].name] |= MODALITIES
    return declared


@dataclass(frozen=True, slots=True)
class CapableTiers:
    """Which tiers of a ladder can answer a request, and what becomes of a decision by that.

    `declared` is what each tier says that it takes; a tier that is not in it is taken to take everything.
    """

    ladder: tuple[str, ...]
    declared: Mapping[str, Collection[str]]
    needs: Needs = TEXT_ONLY

    @property
    def able(self) -> tuple[str, ...]:
        """The tiers that take the request, in the ladder's order; raises RequestError where none does."""
        found = tuple(tier for tier in self.ladder if not self.lacks(tier))
        if not found:
            raise self._refusal(f"no tier takes {self._wanted()}", "messages", self.ladder[-1])
        return found

    def lacks(self, tier: str) -> frozenset[str]:
        """What the request needs that this tier does not declare."""
        declared = self.declared.get(tier)
        return frozenset() if declared is None else self.needs.capabilities.difference(declared)

    def check_forced(self, tier: str) -> None:
        """Raise RequestError where a tier that was asked for by name does not take the request."""
        if lacking := self.lacks(tier):
            raise self._refusal(f"the tier {tier!r} does not take {named_needs(lacking)}", "model", tier)

    def check_floor(self, quality_floor: float) -> None:
        """Raise RequestError where the last tier, which alone may have this quality, does not take the request."""
        top = self.ladder[-1]
        if lacking := self.lacks(top):
            why = f"a quality floor of {quality_floor:g} needs {top!r}, which does not take {named_needs(lacking)}"
            raise self._refusal(why, "serve_graph", top)

    def only(self, policy: Policy, resolved: ResolvedOptions) -> Policy:
        """The policy on the tiers that take the request; raises RequestError where none does that may answer it."""
        if resolved.forced is not None:
            self.check_forced(resolved.forced)
            return policy
        if resolved.quality_floor is not None:
            self.check_floor(resolved.quality_floor)
        able = self.able
        return policy if len(able) == len(policy.tiers) else policy.only(able)

    def apply(self, decision: Decision) -> Decision:
        """Move a decision up to the first tier that takes the request, and promise nothing of what was not measured.

        To the last tier where no tier can declare what the request holds. Raises RequestError where no tier from the
        chosen one up takes it: a cheaper one is not a choice that anybody has made.
        """
        able, needs, ladder = self.able, self.needs, self.ladder
        above = [tier for tier in able if ladder.index(tier) >= ladder.index(decision.tier)]
        if not above:
            raise self._refusal(
                f"{decision.tier!r} was chosen, and no tier from it up takes {self._wanted()}", "messages", ladder[-1]
            )
        unseen = needs.unmeasured
        if unseen is not None and needs.needs_last:
            decision = raised(decision, above[-1], unseen, ladder)
        elif lacking := self.lacks(decision.tier):
            why = f"{decision.tier} does not take {named_needs(lacking)}"
            decision = raised(decision, above[0], why, ladder)
        elif decision.then:
            decision = without_links(decision, able.__contains__)
        if unseen is None and ladder[-1] not in able:
            unseen = f"{ladder[-1]}, which would have the last word, does not take {self._wanted()}"
        if unseen is None:
            return decision
        return replace(decision, reason=f"{decision.reason}; nothing is promised: {unseen}", promised=False)

    def _wanted(self) -> str:
        return named_needs(self.needs.capabilities)

    def _refusal(self, problem: str, param: str, tier: str) -> RequestError:
        """A 400 for what `tier`, the last one that was considered, lacks: it names the setting that would help."""
        lacking, able = self.lacks(tier), [tier for tier in self.ladder if not self.lacks(tier)]
        media = lacking & MODALITIES
        takes = ((tier, self.declared.get(tier, ("anything",))) for tier in self.ladder)
        tiers = "; ".join(f"{tier} takes {in_words(sorted(declared))}" for tier, declared in takes)
        known = f"tiers that do, by name: {', '.join(able)}" if able else tiers
        setting = f"modalities: [{', '.join(['text', *sorted(media)])}]" if media else f"{min(lacking)}: true"
        message = f"{problem} ({known}); the configuration declares `{setting}` of a tier whose model does"
        if param == "messages" and not media:
            param = PARAMETERS[min(lacking)]
        return RequestError(message, param, "unsupported_modality" if media else "unsupported_capability")
