"""Where the weights of a tier come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from serve_graph.config.base import Frozen


class WeightsConfig(Frozen):
    """Where a tier's weights come from: exactly one of `package`, `hub` and `folder`."""

    package: str | None = None
    """Name of a model that is installed as a Python package (extra `local-models`)."""
    hub: str | None = None
    """Hugging Face Hub id; `org/model@revision` also sets `revision`."""
    folder: Path | None = None
    """A local model folder."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Commit, tag or branch of the hub id. Only a commit pins the weights that a certificate depends on."""

    @model_validator(mode="before")
    @classmethod
    def _split_revision(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("hub"), str) or "@" not in data["hub"]:
            return data
        hub, _, revision = data["hub"].partition("@")
        if data.get("revision") not in (None, revision):
            raise ValueError(f"weights.hub names revision {revision!r}, weights.revision {data['revision']!r}")
        return data | {"hub": hub, "revision": revision}

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("package", "hub", "folder") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"weights need exactly one of package, hub, folder; found {given or 'none'}")
        if self.revision is not None and self.hub is None:
            raise ValueError(f"weights.revision belongs to a hub id, not to a {given[0]}")
        return self
