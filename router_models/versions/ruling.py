"""What a version's routers, thresholds and coverage make of prompts: of one, or of several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from router_models.data.text_cache import each_text_once
from router_models.estimators.prompt_parts import conversation_of
from router_models.types import Decision, Prompts, Query
from router_models.types.coverage import Uncovered
from router_models.types.text_coverage import NOT_COMPARED

if TYPE_CHECKING:
    from router_models.versions.router_version import RouterVersion


@dataclass(frozen=True, slots=True)
class Asked:
    """One query, and what is known of it before its text is read.

    `long`: why it is not covered where it is not read to its end; `open_slice`: its slice, where nothing is promised
    of that.
    """

    query: Query
    long: Uncovered | None = None
    open_slice: str | None = None


def rulings(version: RouterVersion, asked: Sequence[Asked], prompts: Prompts) -> list[Decision]:
    """Return the version's decision on each query, a catalogue's word left out.

    Parameters
    ----------
    version : RouterVersion
        Decides.
    asked : sequence of Asked
        n queries.
    prompts : Prompts
        The same n in columns, embedded where a router reads that. Of several at once each column has an entry of each.

    Returns
    -------
    list of Decision
        n decisions, in order; each is the one that the query has alone, but for what sums over other rows round.
    """
    policy, certificate, n = version.policy, version.certificate, len(asked)
    p_ok, far = [dict[str, float]() for _ in asked], None
    with each_text_once():
        for tier, stage in version.stages.items():
            if stage.router is None:
                continue
            estimated, distances = stage.route(prompts)
            for row, p in enumerate(estimated.tolist()):
                p_ok[row][tier] = p
            far = distances if far is None else far
        if far is None and version.novelty is not None:
            far = version.novelty.distance(prompts)
        distance: list[float | None] = [None] * n if far is None else far.tolist()
        found: list[Uncovered | None] = [None] * n
        if certificate is not None:
            for row, one in enumerate(asked):
                apart = distance[row]
                if one.open_slice is None:
                    found[row] = one.long or (None if apart is None else certificate.coverage.novel(apart))
            rest = [row for row in range(n) if asked[row].open_slice is None and found[row] is None]
            for row, why in zip(rest, _unlike(version, asked, prompts, p_ok, rest), strict=True):
                found[row] = why
        layers: dict[str, tuple[str, ...]] = {}
        made = []
        for row, one in enumerate(asked):
            if (why := found[row]) is not None:
                to_top = version.novel_to_top
                made.append(policy.decide_uncovered(p_ok[row], distance[row], why, to_top=to_top))
                continue
            ruled = policy.decide(p_ok[row], distance[row], one.open_slice)
            tier = ruled.tier if ruled.tier in p_ok[row] else next(iter(p_ok[row]), "")
            decider = version.stages.get(tier)
            if decider is not None and decider.router is not None and ruled.promised:
                if tier not in layers:
                    layers[tier] = decider.router.layers_of(prompts)
                ruled = replace(ruled, layer=layers[tier][row])
            made.append(ruled)
    return made


def _unlike(
    version: RouterVersion,
    asked: Sequence[Asked],
    prompts: Prompts,
    p_ok: Sequence[dict[str, float]],
    rows: Sequence[int],
) -> list[Uncovered | None]:
    """Why texts are not covered that are spelled like no training prompt, or easy around a hard part, else None."""
    assert version.certificate is not None, "what is covered is said by a certificate"
    coverage, policy = version.certificate.coverage, version.policy
    if coverage.text == NOT_COMPARED or not rows:
        return [None] * len(rows)
    sent_down = np.array([policy.decide(p_ok[row]).tier != policy.top for row in rows], dtype=np.bool_)
    some = prompts if len(rows) == len(asked) else prompts.take(rows)
    conversations = [conversation_of(asked[row].query.messages) for row in rows]
    return version.text_models.unlike(coverage, some, conversations, sent_down)
