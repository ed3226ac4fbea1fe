"""Keep pandas out of Ray Serve's processes: it imports it in every one of them, for replies that are data frames.

pandas and pyarrow, which it brings along, hold some 60 MB of each process that has no other use for them: proxies, the
controller of Ray Serve, every replica. Ray Serve does without where pandas is not installed. Here nothing else is
changed: whoever needs pandas imports it as ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""Names a function that each worker of a Ray cluster calls as it starts (Ray's `worker_process_setup_hook`)."""
IMPORTER = "ray.serve._private.utils"
"""The module of Ray Serve that imports pandas if it can, to encode data frames in replies."""


class WithoutPandas(MetaPathFinder):
    """Says that pandas is not there while Ray Serve's own module is imported, and to nobody else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        importer = sys.modules.get(IMPORTER) if fullname == "pandas" else None
        if importer is not None and getattr(importer.__spec__, "_initializing", False):
            raise ModuleNotFoundError("pandas is not imported for Ray Serve's replies", name="pandas")
        return None


def spare_pandas() -> None:
    """Have Ray Serve do without pandas in this process, where neither is imported yet."""
    if not any(isinstance(finder, WithoutPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, WithoutPandas())


def spare_pandas_in_workers() -> None:
    """Have the processes of Ray clusters that are started from here do likewise, unless they have another hook."""
    spare_pandas()
    os.environ.setdefault(HOOK, f"{__name__}.{spare_pandas.__name__}")
