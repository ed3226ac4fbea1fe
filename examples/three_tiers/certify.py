"""From a table of outcomes of three models to a certified version, with the library alone.

    python certify.py work

The table here is MADE UP: seeded random grades in which each model is right more often than the one before. Put your
own in its place: one row per prompt and tier, in the columns of docs/guides/outcomes.md.
"""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.errors import NotCertifiedError
from router_models.pipeline import run_pipeline
from router_models.pricing.prices import Price
from router_models.training.candidate import Settings
from router_models.types import Outcome, Usage
from router_models.types.exchange import logprob_summary

PRICES = {
    "small": Price(Decimal("0.10"), Decimal("0.40")),
    "medium": Price(Decimal("0.80"), Decimal("3.20")),
    "large": Price(Decimal("5.00"), Decimal("20.00")),
}
SKILL = {"small": 0.0, "medium": 1.5, "large": 4.0}


def made_up(n: int, seed: int) -> list[Outcome]:
    """`n` prompts, answered by every model; digits make a prompt hard, and logprobs know part of what is right."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        hard = rng.random() < 0.5
        prompt = (
            f"Multiply {rng.integers(1000, 9999)} by {rng.integers(1000, 9999)}, item {i}."
            if hard
            else (f"Name a colour that begins like word {i}.")
        )
        for tier, skill in SKILL.items():
            luck = rng.normal()
            right = rng.random() < 1 / (1 + np.exp(-(skill + 1.0 - 2.5 * hard + 1.5 * luck)))
            tokens = [float(-np.exp(-luck))] * 4
            rows.append(
                Outcome(
                    prompt_id(prompt), prompt, tier, "an answer", float(right), Usage(20, 4), 0.1, "stop",
                    logprob_summary(tokens), {"language": "en"}, label_source="programmatic",
                )
            )  # fmt: skip
    return rows


def main(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    table = work / "outcomes.parquet"
    write_outcomes(table, made_up(800, seed=1))
    settings = Settings(
        tiers=tuple(PRICES),
        prices=PRICES,
        epsilon=0.2,
        delta=0.1,
        binds={},
        router="surface",
        verifier="logprob",
        promise="answered",
    )
    made = run_pipeline(
        table, settings, work, f"sqlite:///{work / 'mlflow.db'}", "three-tiers", datetime.now(UTC), progress=print
    )
    print(f"{made.name}: {made.tags['certificate']}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except NotCertifiedError as error:
        sys.exit(f"nothing can be promised: {error}")
