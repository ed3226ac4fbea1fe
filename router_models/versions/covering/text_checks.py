"""Measure of a prompt's text what a certificate's coverage compares: the drop to its least part, and its spelling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.embeddings.recent_vectors import RecentVectors
from router_models.data.text_cache import cached_by_text, each_text_once
from router_models.estimators.novelty import evenly_spaced
from router_models.estimators.prompt_parts import overlapping_parts, pieces_of_sentences
from router_models.estimators.spelling import Spelling
from router_models.types import BoolArray, FloatArray, IntArray, Prompts
from router_models.types.coverage import Coverage, Uncovered
from router_models.types.text_coverage import TextCoverage
from router_models.versions.sealed.tier_models import Stage

PARTS_QUANTILE, CUTS_QUANTILE, SPELLING_QUANTILE = 0.97, 0.97, 0.99
"""A text of which more is measured than of these shares of TUNE's prompts is not covered."""
OF_MEDIAN = 0.8
LEAST_CHARS, MOST_CHARS_OF_PART = 64, 1000
"""How long parts are: this share of TUNE's median prompt, within these bounds."""
MOST_TUNE = 500
"""TUNE prompts whose parts are estimated to learn what is usual, evenly spaced."""
WINDOWS, PIECES = ("drop", "shortfall"), ("cut_drop", "cut_shortfall")
"""The limits for what is measured of a text's windows, and of what is left without some sentences."""
APART = ("apart",)
"""The limit for how much a text's windows differ in what they are about."""
LEAST_TUNE = 20
"""TUNE prompts below which nothing is known of what is usual."""


@dataclass(frozen=True)
class TextModels:
    """What measures a text: the tiers' models, the encoder of those that embed, the training prompts' spelling.

    `tried_from`: the estimate from which on each tier is tried, where that is decided. `recent`: the parts of prompts
    that came last, where some come again.
    """

    stages: Mapping[str, Stage]
    encoder: TextEncoder
    spelling: Spelling | None = None
    tried_from: Mapping[str, float] = field(default_factory=dict)
    recent: RecentVectors = field(default_factory=RecentVectors)

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
        return self.below_of_windows(prompts, conversations, part_chars)[:, 0]

    def below_of_windows(self, prompts: Prompts, conversations: Sequence[str], part_chars: int) -> FloatArray:
        """Return by how much the least part lies below the whole, and below the threshold where that is less, (n, 2).

        Both are 0 at least of a text without parts; below the threshold of one whose parts are all above it.
        """
        parts = [overlapping_parts(text, part_chars) for text in conversations]
        return self._below(
            prompts, [[] if found == [text] else found for found, text in zip(parts, prompts.texts, strict=True)]
        )

    def apart(self, conversations: Sequence[str], part_chars: int) -> FloatArray:
        """Return the largest distance between two parts of each text, (n,): 1 less the cosine of their embeddings.

        0 of a text without parts, and everywhere where no router embeds. A question that hides behind another one
        lies far from it; the parts of one question lie near each other.
        """
        found = np.zeros(len(conversations))
        if not any(stage.router is not None and stage.router.needs_embeddings for stage in self.stages.values()):
            return found
        parts = [overlapping_parts(text, part_chars) for text in conversations]
        rows = [row for row, windows in enumerate(parts) if len(windows) > 1]
        if not rows:
            return found
        vectors = self._embedded([window for row in rows for window in parts[row]])
        ends = np.cumsum([len(parts[row]) for row in rows])
        for row, own in zip(rows, np.split(vectors, ends[:-1]), strict=True):
            found[row] = max(0.0, 1.0 - float((own @ own.T).min()))
        return found

    def cut_drops(self, prompts: Prompts, conversations: Sequence[str], part_chars: int) -> FloatArray:
        """Return `drops` to the least of the pieces that are left of each short text without some sentences, (n,)."""
        return self.below_of_pieces(prompts, conversations, part_chars)[:, 0]

    def below_of_pieces(
        self, prompts: Prompts, conversations: Sequence[str], part_chars: int, *, averaged: bool = True
    ) -> FloatArray:
        """Return as `below_of_windows` of the pieces that are left of each short text without some sentences, (n, 2).

        Parameters
        ----------
        prompts, conversations, part_chars
            As for `drops`.
        averaged : bool
            Embed every sentence once, and let a piece's vector be their mean by length; else embed every piece.
        """
        found = [pieces_of_sentences(text, part_chars) for text in conversations]
        sentences = [part for pieces in found for part in pieces.values()] if averaged else None
        return self._below(prompts, [list(pieces) for pieces in found], sentences)

    def _below(
        self,
        prompts: Prompts,
        parts: Sequence[Sequence[str]],
        sentences: Sequence[Sequence[str]] | None = None,
    ) -> FloatArray:
        owner = np.repeat(np.arange(len(parts)), [len(found) for found in parts])
        flat = [part for found in parts for part in found]
        below = np.zeros((len(parts), 2))
        if not flat:
            return below
        for tier, stage in self.stages.items():
            router = stage.router
            if router is None or router.needs_reader or router.needs_grades or router.wants_signals:
                continue
            vectors = None
            if router.needs_embeddings:
                vectors = self._embedded(flat) if sentences is None else self._averaged(sentences)
            metadata = {name: tuple(column[i] for i in owner) for name, column in prompts.metadata.items()}
            whole = _log_odds(stage.estimate_alone(prompts))
            of_parts = _log_odds(stage.estimate_alone(Prompts(tuple(flat), vectors, metadata)))
            least = _least_of_each(of_parts, owner, len(parts))
            reached = np.minimum(whole, _log_odds(np.array(self.tried_from.get(tier, np.inf))))
            below = np.maximum(below, np.column_stack([whole - least, reached - least]))
        return below

    def unfamiliar(self, conversations: Sequence[str], part_chars: int) -> FloatArray | None:
        """Return the shares of unknown runs of letters of each text, and of its strangest part, (n, 2).

        None where no training prompts are known.
        """
        if self.spelling is None:
            return None
        shares = [self.spelling.unfamiliar([text, *overlapping_parts(text, part_chars)]) for text in conversations]
        return np.array([(float(row[0]), float(row.max())) for row in shares]).reshape(len(shares), 2)

    def unlike(
        self,
        coverage: Coverage,
        prompts: Prompts,
        conversations: Sequence[str],
        sent_down: BoolArray | None = None,
    ) -> list[Uncovered | None]:
        """Return for every text why it is not covered, (n,), None where it is: its spelling first, that costs least.

        Parameters
        ----------
        coverage : Coverage
            Of a certificate.
        prompts : Prompts
            n prompts, with embeddings where a router reads them.
        conversations : sequence of str
            Their texts without system prompts.
        sent_down : array of bool, optional
            Which prompts the policy sends below its last tier, (n,): where the coverage says so, parts are compared
            of these alone. None: of all.
        """
        read, found = coverage.text, list[Uncovered | None]([None] * len(conversations))
        if (strange := self.unfamiliar(conversations, read.part_chars)) is not None:
            found = [coverage.unlike(None, *map(float, shares)) for shares in strange]
        risked = np.ones(len(found), dtype=np.bool_) if sent_down is None or not read.sent_down else sent_down
        cuts = partial(self.below_of_pieces, averaged=read.averaged)
        checks: tuple[tuple[tuple[str, ...], Callable[[Prompts, list[str], int], FloatArray]], ...] = (
            (WINDOWS, self.below_of_windows),
            (APART, lambda _, texts, size: self.apart(texts, size)[:, None]),
            (PIECES, cuts),
        )
        with each_text_once():
            for names, measured in checks:
                rest = [row for row, why in enumerate(found) if why is None and risked[row]]
                if rest and any(getattr(read, name) is not None for name in names):
                    some = prompts.take(np.array(rest, dtype=np.int64))
                    values = measured(some, [conversations[row] for row in rest], read.part_chars)
                    for row, one in zip(rest, values.tolist(), strict=True):
                        known = dict(zip(names, one, strict=True))
                        found[row] = coverage.unlike(
                            known.pop("drop", None), None, None, known.pop("cut_drop", None), **known
                        )
        return found

    def coverage(self, tune: Prompts, conversations: Sequence[str], *, sent_down: bool = False) -> TextCoverage:
        """Return which texts are covered, by what is usual among TUNE's prompts; labels are not read.

        `sent_down`: whether parts are to be compared of prompts alone that are sent below the last tier.
        """
        if len(conversations) < LEAST_TUNE:
            return TextCoverage()
        median = float(np.median([len(text) for text in conversations]))
        size = int(min(max(OF_MEDIAN * median, LEAST_CHARS), MOST_CHARS_OF_PART))
        some = evenly_spaced(len(conversations), MOST_TUNE)
        usual, texts = tune.take(some), [conversations[row] for row in some]
        drop = rounded_up(float(np.quantile(self.drops(usual, texts, size), PARTS_QUANTILE)))
        cut = rounded_up(float(np.quantile(self.cut_drops(usual, texts, size), CUTS_QUANTILE)))
        found = TextCoverage(size, drop, cut_drop=cut, sent_down=sent_down, averaged=True)
        strange = self.unfamiliar(conversations, size)
        if strange is None:
            return found
        whole, part = (rounded_up(float(most)) for most in np.quantile(strange, SPELLING_QUANTILE, axis=0))
        return replace(found, unfamiliar=whole, unfamiliar_part=part)

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with each_text_once():
            rows = cached_by_text(f"part {self.encoder.digest}", texts, partial(self.recent.of, self.encoder))
        return np.array(rows, dtype=np.float32)

    def _averaged(self, pieces: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return a unit vector for each piece, from those of its sentences."""
        known = {text: row for row, text in enumerate(dict.fromkeys(text for piece in pieces for text in piece))}
        vectors = self._embedded(list(known))
        summed = np.array(
            [np.array([len(text) for text in piece]) @ vectors[[known[text] for text in piece]] for piece in pieces]
        )
        norms = np.linalg.norm(summed, axis=1, keepdims=True)
        return np.asarray(summed / np.maximum(norms, 1e-12), dtype=np.float32)


def _least_of_each(values: FloatArray, owner: IntArray, n: int) -> FloatArray:
    least = np.full(n, np.inf)
    np.minimum.at(least, owner, values)
    return least


def _log_odds(p: FloatArray) -> FloatArray:
    inside = np.clip(p, 0.01, 0.99)
    return np.asarray(np.log(inside / (1 - inside)), dtype=np.float64)


def rounded_up(value: float) -> float:
    """Round up to a thousandth, so that one prompt and a batch of them agree."""
    return (math.floor(1000 * value) + 1) / 1000
