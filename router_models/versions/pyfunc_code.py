"""The code of a registered version as an MLflow model: MLflow copies this file beside the version's data and runs it.

Not to be imported: it tells MLflow, when it is run, which model it defines ("models from code"). What is registered is
this text and data; nothing is pickled.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from router_models.versions.decided import decide_frame
from router_models.versions.router_version import RouterVersion


class RouterVersionModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers a table of prompts, or messages, with decisions: tier, score, covered, reasons."""

    def load_context(self, context: Any) -> None:
        """Load and verify the version's files."""
        self.version = RouterVersion.load(Path(context.artifacts["router_version"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Decide of every row; see `decide_frame`."""
        return decide_frame(self.version, model_input)


mlflow.models.set_model(RouterVersionModel())
