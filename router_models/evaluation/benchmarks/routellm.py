"""Read RouteLLM's published responses from a checkout of lm-sys/RouteLLM.

They are (arXiv 2406.18665) the answers of gpt-4-1106-preview and mixtral-8x7b-instruct on MMLU, GSM8K and
MT-Bench, graded by its authors. Prompts they found in their training data are dropped, as in their evaluation, by
exact text. MT-Bench grades are the judge's two turns averaged, mapped from [1, 10] to [0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from router_models.data.formats import Columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError
from router_models.types import FloatArray

WEAK, STRONG = "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"
EVALS = Path("routellm") / "evals"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Hold one benchmark without contaminated prompts: `raw` prompts were read, `dropped` of them left out."""

    name: str
    table: OutcomeTable
    raw: int
    dropped: int


def read_benchmarks(checkout: Path) -> tuple[Benchmark, ...]:
    """Read MMLU, GSM8K and MT-Bench from a checkout: those whose files are there, at least one.

    Parameters
    ----------
    checkout : Path
        The root of a checkout of lm-sys/RouteLLM.

    Returns
    -------
    tuple of Benchmark

    Raises
    ------
    DataError
        Naming the folder that holds none of them, or the file and column that cannot be read.
    """
    evals = checkout / EVALS
    found = []
    if sorted((evals / "mmlu" / "responses").glob("mmlu_*.csv")):
        found.append(_published(_read_mmlu, evals / "mmlu"))
    if (evals / "gsm8k" / "gsm8k_responses.csv").is_file():
        found.append(_published(_read_gsm8k, evals / "gsm8k"))
    if (evals / "mt_bench" / "judgements.jsonl").is_file():
        found.append(_published(_read_mt_bench, evals / "mt_bench"))
    if not found:
        raise DataError(
            f"{checkout}: no RouteLLM responses under {EVALS}/{{mmlu,gsm8k,mt_bench}}; give the root of a checkout of "
            "lm-sys/RouteLLM"
        )
    return tuple(found)


def _published(read: Callable[[Path], Benchmark], folder: Path) -> Benchmark:
    """Read a benchmark's folder; DataError where its files are not those that RouteLLM publishes."""
    try:
        return read(folder)
    except DataError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{folder}: not as RouteLLM publishes it ({error!r:.200}): check it out again") from error


def _read_mmlu(folder: Path) -> Benchmark:
    files = sorted((folder / "responses").glob("mmlu_*.csv"))
    frames = [_responses(file).assign(domain=file.stem.removeprefix("mmlu_")) for file in files]
    return _benchmark("mmlu", pd.concat(frames, ignore_index=True), folder)


def _read_gsm8k(folder: Path) -> Benchmark:
    return _benchmark("gsm8k", _responses(folder / "gsm8k_responses.csv"), folder)


def _read_mt_bench(folder: Path) -> Benchmark:
    questions = {int(row["question_id"]): row for row in _json_lines(folder / "question.jsonl")}
    scores: dict[str, dict[int, dict[int, float]]] = {WEAK: {}, STRONG: {}}
    for row in _json_lines(folder / "judgements.jsonl"):
        model = _canonical(str(row["model"]))
        if model in scores and float(row["score"]) > 0:  # -1 = the judge gave no rating
            scores[model].setdefault(int(row["question_id"]), {})[int(row["turn"])] = float(row["score"])
    rows = []
    for number, question in questions.items():
        turns = [str(turn) for turn in question["turns"]]
        grades = {model: _mean_grade(judged.get(number, {})) for model, judged in scores.items()}
        rows.append({"prompt": turns[0], "category": str(question.get("category", "")), "turns": turns, **grades})
    frame = pd.DataFrame(rows)
    unjudged = frame[[WEAK, STRONG]].isna().any(axis=1)
    if unjudged.all():
        raise DataError(f"{folder / 'judgements.jsonl'}: no question was judged for both {WEAK} and {STRONG}")
    frame = frame[~unjudged].reset_index(drop=True)
    bad = _contaminated(folder)
    dirty = frame["turns"].map(lambda turns: any(turn in bad for turn in turns)).to_numpy(dtype=bool)
    return Benchmark("mt_bench", _table(frame[~dirty].drop(columns="turns")), len(frame), int(dirty.sum()))


def _benchmark(name: str, frame: pd.DataFrame, folder: Path) -> Benchmark:
    dirty = frame["prompt"].isin(_contaminated(folder)).to_numpy(dtype=bool)
    return Benchmark(name, _table(frame[~dirty]), len(frame), int(dirty.sum()))


def _table(frame: pd.DataFrame) -> OutcomeTable:
    frame = frame.reset_index(drop=True)
    return table_of(
        Columns(
            prompts=tuple(frame["prompt"].astype(str)),
            metadata={c: tuple(frame[c].astype(str)) for c in ("domain", "category") if c in frame},
            grades={tier: frame[tier].to_numpy(dtype=np.float64) for tier in (WEAK, STRONG)},
            answers={},
            finish_reasons={},
            counts={},
            signals={},
        )
    )


def _responses(path: Path) -> pd.DataFrame:
    """Read a responses file with columns prompt, WEAK, STRONG; vendor prefixes of model columns are ignored."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    frame = frame.rename(columns={c: _canonical(str(c)) for c in frame.columns})
    missing = [c for c in ("prompt", WEAK, STRONG) if c not in frame.columns]
    if missing:
        raise DataError(f"{path}: no column(s) {', '.join(missing)}; found: {', '.join(map(str, frame.columns))}")
    grades = {tier: _truths(frame[tier], path, tier) for tier in (WEAK, STRONG)}
    if frame["prompt"].isna().any():
        raise DataError(f"{path}: a row has no prompt")
    return pd.DataFrame({"prompt": frame["prompt"].astype(str), **grades})


def _truths(column: pd.Series, path: Path, name: str) -> FloatArray:
    numbers = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
    values = column.map(lambda value: numbers.get(str(value).strip().lower(), np.nan)).to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        row = int(np.isnan(values).argmax())
        raise DataError(f"{path}: column {name!r}, row {row}: {column.iloc[row]!r} is neither True nor False")
    return np.asarray(values, dtype=np.float64)


def _canonical(column: str) -> str:
    last = column.rpartition("/")[2].lower()
    return last if last in (WEAK, STRONG) else column


def _contaminated(folder: Path) -> set[str]:
    path = folder / "contaminated_prompts.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: missing; without it prompts that RouteLLM was trained on cannot be dropped")
    return {str(row["eval_prompt"]) for row in _json_lines(path)}


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON lines ({error})") from error


def _mean_grade(turns: Mapping[int, float]) -> float:
    """Return both turns' mean, mapped from [1, 10] to [0, 1]; NaN where one was not judged."""
    return (float(np.mean(list(turns.values()))) - 1) / 9 if len(turns) == 2 else float("nan")
