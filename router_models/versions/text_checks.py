"""Measure of a prompt's text what a certificate's coverage compares: the drop to its least part, and its spelling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.text_cache import cached_by_text, each_text_once
from router_models.estimators.prompt_parts import overlapping_parts, pieces_at_sentences
from router_models.estimators.spelling import Spelling
from router_models.types import FloatArray, IntArray, Prompts
from router_models.types.coverage import Coverage, Uncovered
from router_models.types.text_coverage import TextCoverage
from router_models.versions.sealed.tier_models import Stage

PARTS_QUANTILE, CUTS_QUANTILE, SPELLING_QUANTILE = 0.97, 0.97, 0.99
"""A text of which more is measured than of these shares of TUNE's prompts is not covered."""
OF_MEDIAN = 0.8
LEAST_CHARS, MOST_CHARS_OF_PART = 64, 1000
"""How long parts are: this share of TUNE's median prompt, within these bounds."""
LEAST_TUNE = 20
"""TUNE prompts below which nothing is known of what is usual."""


@dataclass(frozen=True)
class TextModels:
    """What measures a text: the tiers' models, the encoder of those that embed, the training prompts' spelling."""

    stages: Mapping[str, Stage]
    encoder: TextEncoder
    spelling: Spelling | None = None

    def drops(self, prompts: Prompts, conversations: Sequence[str], part_chars: int) -> FloatArray:
        """Return by how much, in log-odds, the least part of each prompt is estimated below the whole, (n,).

        Of several tiers' routers the largest drop counts. Estimates are the calibrated routers' own, without what they
        fall back to: a part is shorter than a prompt, and would be novel for that alone.

        Parameters
        ----------
        prompts : Prompts
            n prompts, with embeddings where a router reads them.
        conversations : sequence of str
            Their texts without system prompts.
        part_chars : int
            About how long parts are.
        """
        parts = [overlapping_parts(text, part_chars) for text in conversations]
        return self._drops(
            prompts, [[] if found == [text] else found for found, text in zip(parts, prompts.texts, strict=True)]
        )

    def cut_drops(self, prompts: Prompts, conversations: Sequence[str], part_chars: int) -> FloatArray:
        """Return `drops` to the least of the pieces that are left of each short text without some sentences, (n,)."""
        return self._drops(prompts, [pieces_at_sentences(text, part_chars) for text in conversations])

    def _drops(self, prompts: Prompts, parts: Sequence[Sequence[str]]) -> FloatArray:
        owner = np.repeat(np.arange(len(parts)), [len(found) for found in parts])
        flat = [part for found in parts for part in found]
        least = np.zeros(len(parts))
        if not flat:
            return least
        for stage in self.stages.values():
            router = stage.router
            if router is None or router.needs_reader or router.needs_grades:
                continue
            vectors = self._embedded(flat) if router.needs_embeddings else None
            metadata = {name: tuple(column[i] for i in owner) for name, column in prompts.metadata.items()}
            whole = _log_odds(stage.estimate_alone(prompts))
            of_parts = _log_odds(stage.estimate_alone(Prompts(tuple(flat), vectors, metadata)))
            least = np.maximum(least, whole - _least_of_each(of_parts, owner, len(parts)))
        return least

    def unfamiliar(self, conversations: Sequence[str], part_chars: int) -> FloatArray | None:
        """Return the shares of unknown runs of letters of each text, and of its strangest part, (n, 2).

        None where no training prompts are known.
        """
        if self.spelling is None:
            return None
        shares = [self.spelling.unfamiliar([text, *overlapping_parts(text, part_chars)]) for text in conversations]
        return np.array([(float(row[0]), float(row.max())) for row in shares]).reshape(len(shares), 2)

    def unlike(self, coverage: Coverage, prompts: Prompts, conversations: Sequence[str]) -> list[Uncovered | None]:
        """Return for every text why it is not covered, (n,), None where it is: its spelling first, that costs least.

        Parameters
        ----------
        coverage : Coverage
            Of a certificate.
        prompts : Prompts
            n prompts, with embeddings where a router reads them.
        conversations : sequence of str
            Their texts without system prompts.
        """
        read, found = coverage.text, list[Uncovered | None]([None] * len(conversations))
        if (strange := self.unfamiliar(conversations, read.part_chars)) is not None:
            found = [coverage.unlike(None, *map(float, shares)) for shares in strange]
        for name, most, measured in (("drop", read.drop, self.drops), ("cut_drop", read.cut_drop, self.cut_drops)):
            rest = [row for row, why in enumerate(found) if why is None]
            if most is not None and rest:
                some = prompts.take(np.array(rest, dtype=np.int64))
                below = measured(some, [conversations[row] for row in rest], read.part_chars)
                for row, drop in zip(rest, below, strict=True):
                    found[row] = coverage.unlike(**{"drop": None, "unfamiliar": None, name: float(drop)})
        return found

    def coverage(self, tune: Prompts, conversations: Sequence[str]) -> TextCoverage:
        """Return which texts are covered, by what is usual among TUNE's prompts; labels are not read."""
        if len(conversations) < LEAST_TUNE:
            return TextCoverage()
        median = float(np.median([len(text) for text in conversations]))
        size = int(min(max(OF_MEDIAN * median, LEAST_CHARS), MOST_CHARS_OF_PART))
        drop = _rounded_up(float(np.quantile(self.drops(tune, conversations, size), PARTS_QUANTILE)))
        cut = _rounded_up(float(np.quantile(self.cut_drops(tune, conversations, size), CUTS_QUANTILE)))
        strange = self.unfamiliar(conversations, size)
        if strange is None:
            return TextCoverage(size, drop, cut_drop=cut)
        whole, part = (_rounded_up(float(most)) for most in np.quantile(strange, SPELLING_QUANTILE, axis=0))
        return TextCoverage(size, drop, whole, part, cut)

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with each_text_once():
            rows = cached_by_text("part", texts, lambda new: list(self.encoder.encode(new)))
        return np.array(rows, dtype=np.float32)


def _least_of_each(values: FloatArray, owner: IntArray, n: int) -> FloatArray:
    least = np.full(n, np.inf)
    np.minimum.at(least, owner, values)
    return least


def _log_odds(p: FloatArray) -> FloatArray:
    inside = np.clip(p, 0.01, 0.99)
    return np.asarray(np.log(inside / (1 - inside)), dtype=np.float64)


def _rounded_up(value: float) -> float:
    """Up to a thousandth, so that one prompt and a batch of them agree."""
    return (math.floor(1000 * value) + 1) / 1000
