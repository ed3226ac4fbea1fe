"""Rewrite a table's prompts as an attacker would: with easy questions of which the attacked routers are surest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import cached_by_text
from router_models.types import IntArray, Prompts, Query
from router_models.types.chat_prompts import read_message
from router_models.types.condition_cells import CONDITION_COLUMNS
from router_models.types.conditions import conditions_of
from router_models.versions.covering.covered_rows import conversations
from router_models.versions.covering.perturbations import Perturbation
from router_models.versions.router_version import RouterVersion

EASIEST = 60
"""The easiest training prompts, from which what is added to a question is drawn."""
ADDED = 5
RIGHT = 0.5
"""From which grade on an answer is right, where grades are fractions."""


def easiest(versions: Sequence[RouterVersion], train: OutcomeTable) -> list[str]:
    """Return the training prompts that these routers together are surest of, and the cheapest tier answers right."""
    tier = versions[0].policy.tiers[0]
    scores = [version.stages[tier].estimate_route(train.prompts) for version in versions]
    place = np.mean([np.argsort(np.argsort(-one, kind="stable")) for one in scores], axis=0)
    right, texts = train.grade(tier), conversations(train)
    order = [i for i in np.argsort(place, kind="stable") if right[i] >= RIGHT and texts[i].strip()]
    return [texts[i] for i in order[:EASIEST]]


def rewritten_rows(
    hard: OutcomeTable, perturbation: Perturbation, easy: Sequence[str], likest: IntArray | None = None
) -> OutcomeTable:
    """Return the table with every prompt rewritten; its answers stay those of the prompts as they were.

    Parameters
    ----------
    hard : OutcomeTable
        n prompts.
    perturbation : Perturbation
        How they are rewritten.
    easy : sequence of str
        Easy questions, at least `ADDED`.
    likest : array of int, optional
        Which of these are added to each prompt, (n, `ADDED`); None: in turn.
    """
    texts, asked = [], []
    for row, (text, said, was) in enumerate(
        zip(hard.prompts.texts, conversations(hard), conditions_of_table(hard), strict=True)
    ):
        turn = [(row * ADDED + i) % len(easy) for i in range(ADDED)]
        added = [easy[i] for i in (turn if likest is None else likest[row])]
        made = perturbation.rewrite(said, added)
        chat = [{"role": "user", "content": one} if isinstance(one, str) else one for one in made]
        query = Query(tuple(map(read_message, chat)), {}, {"messages": chat})
        now = conditions_of(query)
        texts.append(text[: len(text) - len(said)] + query.text)
        asked.append(
            replace(
                was,
                turns=was.turns + now.turns - 1,
                system_prompt=now.system_prompt or was.system_prompt,
                tool_loop=was.tool_loop or now.tool_loop,
                prefilled=now.prefilled or was.prefilled,
                unread=was.unread or now.unread,
            ).columns()
        )
    columns = {name: tuple(row[name] for row in asked) for name in CONDITION_COLUMNS}
    return replace(hard, prompts=Prompts(tuple(texts), None, {**hard.prompts.metadata, **columns}))


def likest_of(version: RouterVersion, hard: OutcomeTable, easy: Sequence[str]) -> IntArray:
    """Return which easy questions are most like each prompt, (n, `ADDED`), by a version's encoder."""
    prompts = embedded_rows(version, hard).prompts
    assert prompts.embeddings is not None
    return np.argsort(-(prompts.embeddings @ version.encoder.encode(easy).T), axis=1, kind="stable")[:, :ADDED]


def embedded_rows(version: RouterVersion, table: OutcomeTable) -> OutcomeTable:
    """Return the table with its prompts' embeddings, made where they are not there."""
    prompts = table.prompts
    if prompts.embeddings is None:
        made = cached_by_text(
            f"part {version.encoder.digest}", prompts.texts, lambda new: list(version.encoder.encode(new))
        )
        prompts = replace(prompts, embeddings=np.array(made, dtype=np.float32))
    return replace(table, prompts=prompts)
