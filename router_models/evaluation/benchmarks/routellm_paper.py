"""The figures that RouteLLM's paper reports for its own routers (arXiv 2406.18665 v3, tables 1 to 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PAPERS_LABELS = 1500
"""In-domain labels, about, that the paper's best routers on MMLU learned from beside the arena's votes."""


@dataclass(frozen=True, slots=True)
class Published:
    """Hold one row: CPT in percent of strong calls, APGR as a share; `data` is what the router was trained on."""

    data: str
    method: str
    cpt_50: float
    cpt_80: float
    apgr: float


def _rows(data: str, *figures: tuple[str, float, float, float]) -> tuple[Published, ...]:
    return tuple(Published(data, *figure) for figure in figures)


PUBLISHED: Mapping[str, tuple[Published, ...]] = MappingProxyType(
    {
        "mmlu": (
            *_rows("none", ("Random", 50.07, 79.93, 0.500)),
            *_rows(
                "arena",
                ("BERT", 49.43, 77.80, 0.502),
                ("Causal LLM", 48.88, 77.93, 0.499),
                ("Matrix Factorization", 45.00, 76.86, 0.524),
                ("SW Ranking", 55.82, 80.25, 0.473),
            ),
            *_rows(
                "arena + ~1,500 in-domain labels",
                ("BERT", 41.30, 72.20, 0.572),
                ("Causal LLM", 35.49, 70.31, 0.600),
                ("Matrix Factorization", 35.46, 71.40, 0.597),
                ("SW Ranking", 35.40, 71.55, 0.603),
            ),
        ),
        "gsm8k": (
            *_rows("none", ("Random", 50.00, 80.08, 0.497)),
            *_rows(
                "arena",
                ("BERT", 58.78, 83.84, 0.438),
                ("Causal LLM", 56.09, 83.56, 0.461),
                ("Matrix Factorization", 53.59, 85.24, 0.4746),
                ("SW Ranking", 54.43, 82.11, 0.4753),
            ),
            *_rows(
                "arena + GPT-4 judge",
                ("BERT", 44.76, 79.09, 0.531),
                ("Causal LLM", 33.64, 63.26, 0.622),
                ("Matrix Factorization", 38.82, 72.62, 0.565),
                ("SW Ranking", 41.21, 72.20, 0.568),
            ),
        ),
        "mt_bench": (
            *_rows("none", ("Random", 49.03, 78.08, 0.500)),
            *_rows(
                "arena",
                ("BERT", 78.09, 87.64, 0.391),
                ("Causal LLM", 28.82, 77.53, 0.573),
                ("Matrix Factorization", 25.32, 74.26, 0.580),
                ("SW Ranking", 37.85, 58.99, 0.610),
            ),
            *_rows(
                "arena + GPT-4 judge",
                ("BERT", 19.58, 34.02, 0.751),
                ("Causal LLM", 31.50, 48.75, 0.679),
                ("Matrix Factorization", 13.40, 31.31, 0.802),
                ("SW Ranking", 23.21, 36.04, 0.759),
            ),
        ),
    }
)
