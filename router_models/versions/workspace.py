"""Where versions are made and kept, and whom to tell of progress."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from router_models.types import Progress
from router_models.versions.names import check_name


@dataclass(frozen=True)
class Workspace:
    """What every step from outcomes to a registered version needs beside data and settings.

    Parameters
    ----------
    state_folder : Path
        Holds embeddings, sealed versions and a local registry's files.
    registry_uri : str
        An MLflow tracking URI.
    model : str
        The name that versions are registered under.
    progress : callable
        Called with a sentence at each step.

    Raises
    ------
    RegistryError
        For a name that the registry would refuse.
    """

    state_folder: Path
    registry_uri: str
    model: str
    progress: Progress = lambda _: None

    def __post_init__(self) -> None:
        check_name("model", self.model)

    @property
    def embeddings(self) -> Path:
        """Where prompts' embeddings are kept."""
        return self.state_folder / "embeddings"

    @property
    def candidates(self) -> Path:
        """Where versions are sealed before they are registered."""
        return self.state_folder / "candidates"

    @property
    def artifacts(self) -> Path:
        """Where a local (SQLite) registry keeps its files; a server ignores it."""
        return self.state_folder / "artifacts"

    def version_folder(self, digest: str, made_at: datetime | None) -> Path:
        """Return a folder that is not there yet for a version to be sealed in, named by what it was made of and when.

        Parameters
        ----------
        digest : str
            Names what it was made of: outcomes and settings.
        made_at : datetime, optional
            When it was certified; None: it promises nothing. Of several in one second the later ones have a number.
        """
        first = self.candidates / f"version-{digest}-{'uncertified' if made_at is None else f'{made_at:%Y%m%d%H%M%S}'}"
        others = (first.with_name(f"{first.name}-{n}") for n in count(2))
        return next(folder for folder in chain([first], others) if not folder.exists())
