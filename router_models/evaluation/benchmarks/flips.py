"""How often the choice of a tier flips where the same question is written otherwise (`prompt_edits`).

What flips is the choice, not a score: a prompt far from the threshold stays where it is whatever is done to it. So
flips are counted at the share of prompts that goes to the last tier when nothing is edited, half of them by default,
where most prompts are near the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.embeddings.encoder import Encoder
from router_models.data.features import embedding_of
from router_models.data.json_values import to_json_values
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.evaluation.benchmarks.prompt_edits import EDIT_KINDS, PROMPT_EDITS, PromptEdit
from router_models.metrics import Interval, bootstrap
from router_models.metrics.intervals import exact_share
from router_models.reports.markdown import percent
from router_models.reports.markdown import table as markdown_table
from router_models.training.evidence import route_at_for_share
from router_models.training.splits import LabelledSplits
from router_models.types import BoolArray, FloatArray, Progress, Prompts, Query
from router_models.versions.router_version import RouterVersion

Choice = Callable[[Prompts], BoolArray]
"""Which of n prompts go to the last tier, (n,)."""
WORST = 20


@dataclass(frozen=True, slots=True)
class EditFlips:
    """Hold what one edit did: the share of prompts whose choice flipped, with its exact 95 % interval.

    `up` and `down`: the shares that went to the last tier, or left it.
    """

    name: str
    kind: str
    flips: Interval
    up: float
    down: float


@dataclass(frozen=True, slots=True)
class ChoiceFlips:
    """Hold what all edits did to one version's or family's choices.

    Parameters
    ----------
    name : str
        Whose choices.
    prompts : int
        Prompts that were edited.
    last_share : float
        The share of them that goes to the last tier as they are.
    flips : Interval
        The share of all edited prompts whose choice flipped, with a bootstrap interval over prompts.
    kinds : mapping of str to Interval
        The same by kind of edit.
    steady : float
        The share of prompts that no edit flips.
    edits : tuple of EditFlips
        One for each edit.
    """

    name: str
    prompts: int
    last_share: float
    flips: Interval
    kinds: Mapping[str, Interval]
    steady: float
    edits: tuple[EditFlips, ...]


def measure_flips(
    choices: Mapping[str, Choice],
    texts: Sequence[str],
    encoder: TextEncoder | None,
    *,
    edits: Mapping[str, PromptEdit] = PROMPT_EDITS,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> list[ChoiceFlips]:
    """Edit prompts, and count whose choice flips.

    Parameters
    ----------
    choices : mapping of str to callable
        Whose choices are compared, by name.
    texts : sequence of str
        n prompts.
    encoder : TextEncoder, optional
        Embeds them, once for all; None: nobody reads embeddings.
    edits : mapping of str to PromptEdit
        All by default.
    seed : int
        Of the resamples.
    progress : callable
        Receives a sentence now and then.

    Raises
    ------
    DataError
        Without a prompt or an edit.
    """
    if not texts or not edits:
        raise DataError("there is no prompt to edit, or no edit")

    def read(written: Sequence[str]) -> Prompts:
        return Prompts(tuple(written), None if encoder is None else encoder.encode(list(written)))

    plain = read(texts)
    before = {name: choose(plain) for name, choose in choices.items()}
    after: dict[str, list[BoolArray]] = {name: [] for name in choices}
    for i, edit in enumerate(edits.values()):
        if i % 60 == 0:
            progress(f"{i} of {len(edits)} edits of {len(texts)} prompts")
        with each_text_once():
            written = read([edit.rewrite(text) for text in texts])
            for name, choose in choices.items():
                after[name].append(choose(written))
    return [_found(name, before[name], np.array(after[name]), edits, seed) for name in choices]


def family_choices(
    splits: LabelledSplits, families: Sequence[str], *, share: float = 0.5, progress: Progress = lambda _: None
) -> dict[str, Choice]:
    """Fit families on TRAIN as `train` does, and send a share of TUNE's prompts to the last tier."""
    return {family: _family_choice(splits, family, share, progress) for family in families}


def _family_choice(splits: LabelledSplits, family: str, share: float, progress: Progress) -> Choice:
    progress(f"fitting {family}")
    router = RouterWithFallback(ROUTERS[family]()).fit(splits.train.prompts, splits.train.grade(splits.tiers[0]))
    threshold = route_at_for_share(router.predict(splits.tune.prompts), share)
    return lambda prompts: np.asarray(router.predict(prompts) < threshold)


def version_choice(version: RouterVersion) -> Choice:
    """Return a version's choices as it would serve: what its certificate does not cover goes to the last tier."""

    def choose(prompts: Prompts) -> BoolArray:
        found = []
        for i, text in enumerate(prompts.texts):
            made = embedding_of(prompts.take(np.array([i])), version.encoder) if version.needs_encoder else None
            found.append(version.decide(Query.from_prompt(text), made).tier == version.policy.top)
        return np.array(found, dtype=np.bool_)

    return choose


def encoder_for(families: Sequence[str], version: RouterVersion | None = None) -> Encoder | None:
    """Return what embeds prompts for these; None where none of them reads embeddings."""
    reads = any(ROUTERS[family].needs_embeddings for family in families)
    if version is not None and version.needs_encoder:
        return version.encoder
    return Encoder() if reads else None


def _found(name: str, before: BoolArray, after: BoolArray, edits: Mapping[str, PromptEdit], seed: int) -> ChoiceFlips:
    flipped, kinds = after != before, np.array([edit.kind for edit in edits.values()])
    rows = tuple(
        EditFlips(
            called, edit.kind, exact_share(int(row.sum()), len(before)), float((row & ~before).mean()),
            float((row & before).mean()),
        )
        for (called, edit), row in zip(edits.items(), flipped, strict=True)
    )  # fmt: skip
    by_kind = {kind: _mean(flipped[kinds == kind], seed) for kind in EDIT_KINDS if (kinds == kind).any()}
    steady = float((~flipped.any(axis=0)).mean())
    return ChoiceFlips(name, len(before), float(before.mean()), _mean(flipped, seed), by_kind, steady, rows)


def _mean(flipped: BoolArray, seed: int) -> Interval:
    """The share of flips, (edits, prompts), with an interval over prompts: edits of one prompt go together."""
    each = flipped.mean(axis=0)

    def mean(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ each / weights.sum(axis=1))

    return bootstrap(mean, len(each), seed=seed)


def flips_page(found: Sequence[ChoiceFlips], made: str = "") -> str:
    """Return the page as Markdown: all kinds for everybody, and the edits that flip most."""
    kinds = list(found[0].kinds)
    head = ["choices of", "to the last tier", "flips", *kinds, "prompts that nothing flips"]
    body = [
        [
            one.name, f"{one.last_share:.0%}", percent(one.flips), *(f"{one.kinds[kind].value:.1%}" for kind in kinds),
            f"{one.steady:.0%}",
        ]
        for one in found
    ]  # fmt: skip
    parts = [
        "# How often a choice flips where a question is written otherwise",
        made,
        f"{found[0].prompts} held-out prompts, {len(found[0].edits)} edits of each; intervals (95 %): bootstrap over "
        "prompts, of single edits exact.",
        markdown_table([head, *body]),
    ]
    for one in found:
        worst = sorted(one.edits, key=lambda edit: -edit.flips.value)[:WORST]
        rows = [[e.name, e.kind, percent(e.flips), f"{e.up:.1%}", f"{e.down:.1%}"] for e in worst]
        shown = markdown_table([["edit", "kind", "flips", "to the last tier", "from it"], *rows])
        parts += [f"## {one.name}: the {len(worst)} edits that flip most", shown]
    return "\n\n".join(part for part in parts if part) + "\n"


def flips_figures(found: Sequence[ChoiceFlips]) -> Any:
    """Return the figures as JSON values."""
    return to_json_values([replace(one) for one in found])
