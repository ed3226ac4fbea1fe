"""Whose word for a label counts, where labels decide how a request is answered. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from router_models.data.slices import DETECTED, LABELS_OF


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The labels that a version decides by, and the names in a request's metadata that are `trusted`.

    `slicer`: by what the version's slices are found; `stated`: the certified rows stated their slice, instead of
    having it detected. `read`: the metadata that its routers read.
    """

    slicer: str | None = None
    stated: bool = False
    read: tuple[str, ...] = ()
    trusted: Collection[str] = ()

    def unproven(self, metadata: Mapping[str, str], fixed: Collection[str] = ()) -> str | None:
        """Why nothing is promised of a request with these labels, of which its key fixes some; None where they hold.

        Whoever names a slice chooses the threshold that his answers need: the rows of a slice, and the requests that a
        caller puts in it, are two sets. So are rows that stated their slice, and requests whose slice is detected.
        """
        named = next((name for name in LABELS_OF.get(self.slicer or "", ()) if metadata.get(name)), None)
        deciding = [*self.read, *([named] if named else [])]
        for name in deciding:
            if name not in fixed and name not in self.trusted:
                said = f"{name}={metadata[name]}" if metadata.get(name) else f"no {name}"
                return f"the caller says {said}: neither its key nor policy.trusted_labels vouches for that"
        if self.slicer is None or not LABELS_OF[self.slicer]:
            return None
        if named is not None:
            return None if self.stated else f"{self.slicer} is stated, and was detected when it was certified"
        if self.slicer in DETECTED:
            return f"{self.slicer} is detected, and was stated when it was certified" if self.stated else None
        if any(name in self.trusted for name in LABELS_OF[self.slicer]):
            return None
        return f"nobody who is trusted to says the {self.slicer.replace('_', ' ')} that it was certified by"
