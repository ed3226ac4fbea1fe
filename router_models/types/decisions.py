"""Policy decisions, and the thresholds that they are made by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from router_models.types.coverage import Uncovered


class Action(StrEnum):
    """Name the outcome of a request; the values are those of the `x-serve-graph-outcome` header."""

    ROUTED = "routed"
    ACCEPTED = "accepted"
    ESCALATED = "escalated"
    ABSTAINED = "abstained"
    FORCED = "forced"
    FALLBACK = "fallback"
    ENSEMBLE = "ensemble"


DECIDED_BY_NO_VERSION = (Action.FORCED, Action.ENSEMBLE)
"""Outcomes of requests that no version decided: the caller named a tier, or two answered and one was picked."""


@dataclass(frozen=True, slots=True)
class PromptEmbedding:
    """Hold the embedding of a prompt and what it was made from, for those who read the same prompt later.

    Parameters
    ----------
    text_digest : bytes
        Hash of the text that was embedded.
    encoder : str
        Digest of the encoder.
    vector : array of float32, (d,)
        The embedding.
    """

    text_digest: bytes
    encoder: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IntentMatch:
    """Hold what a catalogue of intents says of a query.

    Parameters
    ----------
    catalogue : str
        The digest of the catalogue in force; '' where there is none.
    layer : str
        What speaks: semantic (an intent), known-hard, or router where no intent matches.
    intent : str, optional
        The intent's name; None: no example is near enough.
    cosine : float, optional
        To the intent's nearest example.
    floor : float, optional
        The cosine from which on a query has the intent.
    tier : str, optional
        The tier that the intent sends the query to; None: the router decides.
    not_promised : str, optional
        Why nothing is promised of any query that is decided beside this catalogue; None: the version was certified
        with it, or it sends nothing anywhere.
    """

    catalogue: str
    layer: str = "router"
    intent: str | None = None
    cosine: float | None = None
    floor: float | None = None
    tier: str | None = None
    not_promised: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold the tier that a query was routed to before generation, and why.

    Parameters
    ----------
    tier : str
        The tier that is called first.
    reason : str
        Why, in words.
    p_cheap_ok : float, optional
        The calibrated P(the cheap answer is acceptable) that the decision rests on, in [0, 1]; None where no estimate
        was made (a forced tier, a fallback).
    distance : float, optional
        Distance of the query from the router's training data: 0 = typical, from 1 on out of domain; None = unknown.
    promised : bool
        False where the version's certificate does not cover this query, although it covers others.
    moved : str, optional
        Why this is another tier than the router's choice; None where it is that choice.
    uncovered : Uncovered, optional
        How the query lies outside what was certified; nothing is promised of its answer, whoever gives it.
    embedding : PromptEmbedding, optional
        The prompt's embedding, where deciding needed it, so that the verifier does not compute it again. No part of
        what is compared or recorded.
    intent : IntentMatch, optional
        What a catalogue of intents says of the query; None: none is in force, nor was one when it was certified.
    layer : str
        What chose the tier: `router`, another layer of a router that names one (`metadata`, `semantic`, …), `rule`,
        `coverage` or `share`. No part of what is compared.
    then : tuple of (str, float)
        The tiers that a rejected answer goes to in turn, before the last one, each with its own estimate; none unless
        the policy is a chain.
    """

    tier: str
    reason: str
    p_cheap_ok: float | None = None
    distance: float | None = None
    promised: bool = True
    moved: str | None = None
    uncovered: Uncovered | None = None
    embedding: PromptEmbedding | None = field(default=None, compare=False, repr=False)
    intent: IntentMatch | None = None
    layer: str = field(default="router", compare=False, repr=False)
    then: tuple[tuple[str, float], ...] = ()

    def after(self, tier: str) -> str | None:
        """Return the tier of the chain that comes after another.

        Parameters
        ----------
        tier : str
            The one that was asked.

        Returns
        -------
        str or None
            None where none comes after it but the last one.
        """
        names = [self.tier, *(name for name, _ in self.then)]
        place = names.index(tier) + 1 if tier in names else len(names)
        return names[place] if place < len(names) else None

    def at(self, tier: str) -> Decision:
        """Return the same decision with the estimate of the chain's tier that is asked now.

        Parameters
        ----------
        tier : str
            That tier.

        Returns
        -------
        Decision
            This one, where the chain has no such tier.
        """
        estimate = dict(self.then).get(tier)
        return self if estimate is None else replace(self, tier=tier, p_cheap_ok=estimate)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold what the verifier decided about a completion.

    Parameters
    ----------
    action : Action
        Accepted, escalated or abstained.
    reason : str
        Why, in words.
    p_ok : float, optional
        The calibrated P(the answer is acceptable), in [0, 1].
    may_serve_on_overload : bool
        Whether an escalated answer is certified to be served all the same while the last tier is full.
    promised : bool
        False where no certificate covers this answer, although it covers others: it was accepted by rule, or not
        judged.
    layer : str
        What decided: `verifier`, `check` (a rule that reads the answer) or `coverage`. No part of what is compared.
    """

    action: Action
    reason: str
    p_ok: float | None = None
    may_serve_on_overload: bool = False
    promised: bool = True
    layer: str = field(default="verifier", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Hold the thresholds of a tier. All are compared with ≥: a score equal to its threshold passes.

    Parameters
    ----------
    route_at : float
        A query is tried on the tier when its router score is at least this; `inf` = never.
    accept_at : float
        An answer is accepted when its verifier score is at least this; `-inf` = every one, so that none is judged.
    abstain_below : float, optional
        The policy abstains when the verifier score of the *last* answer is below this; None = never.
    """

    route_at: float
    accept_at: float
    abstain_below: float | None = None


@dataclass(frozen=True, slots=True)
class PrefixPoint:
    """Hold the condition under which the first tokens of a cheap answer suffice to accept it.

    The threshold is certified for prefixes of exactly that length; shorter answers are judged whole.

    Parameters
    ----------
    tokens : int
        The length of the prefix, in generated tokens.
    accept_at : float
        The verifier score of the prefix from which on the answer is accepted.
    """

    tokens: int
    accept_at: float
