"""What changes where one version serves in the place of another: replayed over the same prompts, paired row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import SLICERS, slices_of
from router_models.errors import DataError
from router_models.metrics import Interval, bootstrap
from router_models.pricing.prices import Price
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.ladder.replay import Replay
from router_models.training.evidence import evidence_of, replay_version
from router_models.training.splits import split_outcomes
from router_models.training.whose_labels import without_chosen
from router_models.types import BoolArray, FloatArray, IntArray
from router_models.versions.router_version import RouterVersion

ABSTAINED = "abstained"
LEAST_IN_SLICE, DRAWS = 20, 1000
LONGEST_EXAMPLE = 120


@dataclass(frozen=True, slots=True)
class Flip:
    """Prompts that another tier answers: `before` and `after` are tiers, or `abstained`.

    `gained`, `lost`: of them answered rightly by the new version alone, by the old one alone. `examples`: the first
    prompts, those that were gained or lost before others, cut to `LONGEST_EXAMPLE` characters.
    """

    before: str
    after: str
    n: int
    gained: int
    lost: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SliceChange:
    """Right answers in a slice, new less old, as a share of its `n` prompts with a 95 % interval; dollars a prompt."""

    slicer: str
    name: str
    n: int
    right: Interval
    usd: float

    @property
    def direction(self) -> str:
        """`gains` or `loses` where the interval leaves no doubt, else `unclear`."""
        return "gains" if self.right.low > 0 else "loses" if self.right.high < 0 else "unclear"


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """Two versions over the same `n` prompts, pairs as (old, new).

    Shares of right answers, `difference` new less old with its 95 % interval; cheap answers shown, and harmful ones of
    them; mean dollars a prompt; what flips; slices whose right answers or tiers change, the greatest loss first.
    """

    n: int
    right: tuple[float, float]
    difference: Interval
    accepted: tuple[int, int]
    harmful: tuple[int, int]
    usd: tuple[float, float]
    flips: tuple[Flip, ...]
    slices: tuple[SliceChange, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; slices with their direction."""
        slices = [asdict(change) | {"direction": change.direction} for change in self.slices]
        return asdict(self) | {"slices": slices}


def held_out(table: OutcomeTable, tiers: tuple[str, ...], seeds: tuple[int, int]) -> OutcomeTable:
    """Return the rows of a table that neither version was fitted on: TUNE and CERT by either's seed, one of a group.

    Rows of served traffic that were chosen rather than drawn are left out.

    Raises
    ------
    DataError
        Where no row is left.
    """
    table = without_chosen(table)
    parts = [split_outcomes(table, tiers, seed) for seed in dict.fromkeys(seeds)]
    kept = [{*part.tune.prompt_ids, *part.cert.prompt_ids} for part in parts]
    both = set.intersection(*kept)
    whole = parts[0].tune.prompt_ids + parts[0].cert.prompt_ids
    chosen = [row for row, name in enumerate(parts[0].table.prompt_ids) if name in both]
    once = {parts[0].table.prompt_ids[row]: row for row in reversed(chosen)}
    rows = sorted(once[name] for name in dict.fromkeys(whole) if name in once)
    if not rows:
        raise DataError("the table has no row that neither version was fitted on and every tier was graded on")
    return parts[0].table.take(np.array(rows))


def diff_versions(
    old: RouterVersion,
    new: RouterVersion,
    table: OutcomeTable,
    prices: Mapping[str, Price],
    most_examples: int = 3,
    *,
    old_table: OutcomeTable | None = None,
) -> VersionDiff:
    """Replay two versions of the same tiers over a table; pure.

    Parameters
    ----------
    old, new : RouterVersion
        With a router for every tier below the last and verifiers.
    table : OutcomeTable
        Graded for every tier, with embeddings where either reads them.
    prices : mapping of str to Price
        By tier, the same for both.
    most_examples : int
        Prompts that are shown of each kind of flip.
    old_table : OutcomeTable, optional
        The same rows with the embeddings that `old` reads, where its encoder is another.

    Raises
    ------
    DataError
        Where the versions are of other tiers, and as `evidence_of` does.
    """
    if old.policy.tiers != new.policy.tiers:
        raise DataError(f"{old.name} is for the tiers {old.policy.tiers}, {new.name} for {new.policy.tiers}")
    replayed = ((old, table if old_table is None else old_table), (new, table))
    seen = [evidence_of(version, its, prices, version.slicer) for version, its in replayed]
    played = [replay_version(version, rows) for version, rows in zip((old, new), seen, strict=True)]
    labels = seen[0].grades >= 0.5
    right = [replay.right(labels) for replay in played]
    gain = right[1].astype(float) - right[0].astype(float)
    spent = played[1].cost_usd - played[0].cost_usd
    return VersionDiff(
        n=len(table),
        right=(float(right[0].mean()), float(right[1].mean())),
        difference=_mean(gain),
        accepted=(int(played[0].accepted.sum()), int(played[1].accepted.sum())),
        harmful=(int(played[0].harmed(labels).sum()), int(played[1].harmed(labels).sum())),
        usd=(float(played[0].cost_usd.mean()), float(played[1].cost_usd.mean())),
        flips=_flips(seen[0], (played[0], played[1]), gain, table, most_examples),
        slices=_slices(table, played[0].answered_by != played[1].answered_by, gain, spent),
    )


def _flips(
    seen: CascadeEvidence, played: tuple[Replay, Replay], gain: FloatArray, table: OutcomeTable, most: int
) -> tuple[Flip, ...]:
    names = {-1: ABSTAINED, **dict(enumerate(seen.tiers))}
    pairs = list(zip(played[0].answered_by.tolist(), played[1].answered_by.tolist(), strict=True))
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    found = []
    for (before, after), n in counts.most_common():
        rows = np.array([row for row, pair in enumerate(pairs) if pair == (before, after)])
        telling = rows[np.argsort(gain[rows] == 0, kind="stable")][:most]
        found.append(
            Flip(
                names[before],
                names[after],
                n,
                int((gain[rows] > 0).sum()),
                int((gain[rows] < 0).sum()),
                tuple(_shortened(table.prompts.texts[row]) for row in telling),
            )
        )
    return tuple(found)


def _slices(table: OutcomeTable, flipped: BoolArray, gain: FloatArray, spent: FloatArray) -> tuple[SliceChange, ...]:
    found = []
    for slicer in SLICERS:
        if slicer == "detected_language":
            continue
        names = np.array(slices_of(slicer, table.prompts))
        kinds, counts = np.unique(names, return_counts=True)
        if len(kinds) < 2:
            continue
        for name, n in zip(kinds.tolist(), counts.tolist(), strict=True):
            rows: IntArray = np.flatnonzero(names == name)
            if n >= LEAST_IN_SLICE and flipped[rows].any():
                found.append(SliceChange(slicer, name, n, _mean(gain[rows]), float(spent[rows].mean())))
    return tuple(sorted(found, key=lambda change: change.right.value))


def _mean(values: FloatArray) -> Interval:
    return bootstrap(lambda weights: weights @ values / weights.sum(axis=-1), len(values), draws=DRAWS)


def _shortened(text: str) -> str:
    """One printable line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST_EXAMPLE else f"{line[: LONGEST_EXAMPLE - 1]}…"
