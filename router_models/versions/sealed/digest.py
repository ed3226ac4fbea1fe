"""What identifies the learned models of a version, wherever they are stored."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from router_models.estimators.registry import original_name
from router_models.versions.sealed.tier_models import parts_of, prefix_named

if TYPE_CHECKING:
    from router_models.versions.router_version import RouterVersion


def models_digest(version: RouterVersion) -> str:
    """sha256 over the learned state of every model and calibrator; unchanged by saving and loading."""
    digest = hashlib.sha256()
    for tier, stage in [*sorted(version.stages.items()), *sorted(prefix_named(version.prefix_stages).items())]:
        for what, part in sorted(parts_of(stage).items()):
            state = None if part is None else part.state()
            family = original_name(what, part.family) if part else None
            digest.update(f"{tier}.{what}:{family}".encode())
            if state is not None:
                digest.update(json.dumps(state.meta, sort_keys=True).encode())
                for key, array in sorted(state.arrays.items()):
                    plain = np.ascontiguousarray(array)
                    digest.update(f"{key}{plain.dtype}{plain.shape}".encode() + plain.tobytes())
    if version.spelling is not None:
        digest.update(version.spelling.state().arrays["known"].tobytes())
    return digest.hexdigest()
