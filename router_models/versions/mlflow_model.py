"""A version's folder as an MLflow model: MLmodel, signature, input example, the code that loads it; no pickle."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ARTIFACT = "router_version"
MODEL = "model"
"""Where a run keeps the MLflow model, the version's folder in its `artifacts`; until release 0.2 the folder alone."""
LONGEST_DESCRIPTION = 5000
"""Characters: MLflow's own limit, which SQLite does not enforce and PostgreSQL and MySQL do."""
MODEL_CODE = Path(__file__).with_name("pyfunc_code.py")
EXAMPLES = ("What is the plural of “mouse”?", "Prove that there are infinitely many primes.")
_BLANK = "\u00a0"
_PICTURE = re.compile(r"^!\[[^\]]*\]\(([^):]+)\)$", re.MULTILINE)
_RULE = re.compile(r"\|(?:\s*:?-+:?\s*\|)+")
_CELL_END = re.compile(r"(?<!\\)\|(?=.)")


def folder_within(source: str) -> str:
    """Return where a run keeps the version's folder, by the source of its registered version."""
    return f"{MODEL}/artifacts/{ARTIFACT}" if source.rstrip("/").endswith(f"/{MODEL}") else ARTIFACT


def log_model(folder: Path, log: Callable[[str, str], object]) -> str:
    """Write the MLflow model of a sealed folder and log it.

    Parameters
    ----------
    folder : Path
        The sealed folder.
    log : callable
        Logs a local folder under a name, as artifacts of the run.

    Returns
    -------
    str
        The name.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="serve-graph-model-") as scratch, _quiet():
        import mlflow.pyfunc

        named = Path(scratch) / ARTIFACT  # MLflow names an artifact's folder after the one that it is given
        shutil.copytree(folder, named)
        made = Path(scratch) / MODEL
        mlflow.pyfunc.save_model(
            str(made),
            python_model=str(MODEL_CODE),
            artifacts={ARTIFACT: str(named)},
            signature=_signature(),
            input_example=pd.DataFrame({"prompt": EXAMPLES}),
            pip_requirements=[_requirement()],
        )
        log(str(made), MODEL)
    return MODEL


def page_description(report: str) -> str:
    """Return a report, in Markdown, for the registry's page: cells set apart, tables set off, pictures named.

    MLflow renders no space between the cells of a table or below one, and knows no pictures that lie beside a text.
    """
    lines: list[str] = []
    for line in _PICTURE.sub(r"*The picture \1: in report.html of the run.*", report).splitlines():
        if not line.startswith("|") and lines and lines[-1].startswith("|"):
            lines += ["", _BLANK]
        is_row = line.startswith("|") and not _RULE.fullmatch(line.strip())
        lines.append(line[0] + _CELL_END.sub(f"{3 * _BLANK}|", line[1:-1]) + line[-1] if is_row else line)
    return "\n".join(lines)


def shortened_report(text: str) -> str:
    """Return a report as a version's description: whole sections of it, as many as MLflow's databases hold."""
    if len(text) <= LONGEST_DESCRIPTION:
        return text
    rest = "\n\nThe other sections: `report.html` of the run, or `serve-graph versions show`."
    kept = text[: LONGEST_DESCRIPTION - len(rest)]
    end = kept.rfind("\n## ")
    return (kept[:end] if end > 0 else kept).rstrip() + rest


def _signature() -> Any:
    """`messages` is of any type: a list of objects whose content is a text or a list of parts, or the JSON of one."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array

    inputs = Schema(
        [ColSpec(DataType.string, "prompt", required=False), ColSpec(AnyType(), "messages", required=False)]
    )
    outputs = Schema(
        [
            ColSpec(DataType.string, "tier"),
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.boolean, "covered"),
            ColSpec(Array(DataType.string), "reasons"),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


def _requirement() -> str:
    try:
        return f"serve-graph=={version('serve-graph')}"
    except PackageNotFoundError:
        return "serve-graph"


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow tells people who write models by hand what they might do better."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def dataset_input(digest: str, sources: dict[str, Any]) -> Any:
    """Return the outcome table as an MLflow input of a run: its hash, and what is known of it; no path, no prompt."""
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name="outcomes",
        digest=digest[:36],  # the most that MLflow keeps
        source_type="serve-graph-outcomes",
        source=json.dumps({"sha256": digest}),
        profile=json.dumps(sources),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, tune and certify")])
