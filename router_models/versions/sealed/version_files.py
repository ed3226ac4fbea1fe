"""All files of a version, written at once and read back."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_models.data.artifacts import load_state, read_json_file, save_state, seal, verify
from router_models.data.embeddings.encoder import PRODUCTS, Encoder
from router_models.data.features import FEATURES_VERSION
from router_models.data.slices import DETECTED, SLICERS
from router_models.errors import ArtifactError, CertificateError
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.spelling import Spelling
from router_models.metrics.score_shares import ScoreShares
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.sealed.policy_file import overload_point, policy_values, prefix_point, read_certificate
from router_models.versions.sealed.tier_models import load_stage, parts_of, prefix_named

if TYPE_CHECKING:
    from router_models.versions.router_version import RouterVersion


def write_version(version: RouterVersion, folder: Path, extra: Path | None) -> str:
    """Write the sealed folder as `RouterVersion.save` says; returns its hash."""
    if folder.exists():
        raise ArtifactError(f"{folder} exists; a version's files are never replaced")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".version-", dir=folder.parent) as scratch:
        out = Path(scratch) / "version"
        out.mkdir()
        for name, stage in {**version.stages, **prefix_named(version.prefix_stages)}.items():
            for what, part in parts_of(stage).items():
                if part is not None:
                    save_state(out, f"{name}.{what}", part.state())
        if version.novelty is not None:
            save_state(out, "home", version.novelty.state())
        if version.spelling is not None:
            save_state(out, "spelling", version.spelling.state())
        (out / "policy.json").write_text(json.dumps(policy_values(version), indent=1))
        if version.certificate is not None:
            (out / "certificate.json").write_text(json.dumps(version.certificate.to_json(), indent=1))
        if extra is not None:
            shutil.copytree(extra, out, dirs_exist_ok=True)
        digest = seal(out)
        out.rename(folder)
    return digest


def read_version(folder: Path) -> dict[str, Any]:
    """Return the fields of the RouterVersion in a sealed folder, but for its name; errors as `RouterVersion.load`."""
    digest, written = verify(folder), folder / "policy.json"
    try:
        data = read_json_file(written)
        if data["features_version"] != FEATURES_VERSION:
            made_for = data["features_version"]
            raise ArtifactError(f"{written}: made for features version {made_for}, not {FEATURES_VERSION}; retrain")
        if (products := data.get("encoder_products", "floats")) not in PRODUCTS:  # versions of before say nothing
            raise ArtifactError(f"{written}: embeds by products of {products!r:.50}, which this release does not know")
        if (slicer := data.get("slicer")) is not None and slicer not in SLICERS:
            known = ", ".join(SLICERS)
            raise ArtifactError(
                f"{written}: sliced by {slicer!r}, which this release does not know (it knows {known})"
            )
        points = {
            tier: OperatingPoint(float(p[0]), float(p[1]), None if p[2] is None else float(p[2]))
            for tier, p in data["points"].items()
        }
        judged, proved = data.get("prefix_families", {}), data.get("prefix_certificates", {})
        if lacking := sorted(judged.keys() - proved.keys()):
            raise ArtifactError(f"{written}: judges the first tokens of {lacking[0]!r} without a certificate for them")
        stages = {tier: load_stage(folder, tier, families) for tier, families in data["families"].items()}
        prefix_stages = {tier: load_stage(folder, f"{tier}.prefix", families) for tier, families in judged.items()}
        path = folder / "certificate.json"
        certificate = read_certificate(path, read_json_file(path)) if path.is_file() else None
        prefixes = {t: read_certificate(written, made) for t, made in proved.items()}
        spilled = data.get("spill_certificates", {})
        overload_points = {t: read_certificate(written, made) for t, made in spilled.items()}
        policy = Policy(
            tuple(data["tiers"]),
            points,
            {t: prefix_point(made) for t, made in prefixes.items()},
            {t: overload_point(made) for t, made in overload_points.items()},
            bool(data.get("chain", False)),
        )
        novelty = NoveltyDetector.from_state(load_state(folder, "home")) if data.get("home") else None
        spelling = Spelling.from_state(load_state(folder, "spelling")) if data.get("spelling") else None
        judges_calls, longest_prompt = tuple(data.get("judges_calls", ())), data.get("longest_prompt")
        score_quantiles = ScoreShares.of_values(data.get("score_quantiles", ())).quantiles
    except (ArtifactError, CertificateError):
        raise
    except Exception as error:  # whatever other values than ours lead to
        said = f"{type(error).__name__}: {error!s:.300}"
        raise ArtifactError(f"{written}: not a router version ({said})") from error
    return {
        "policy": policy,
        "stages": stages,
        "certificate": certificate,
        "digest": digest,
        "slicer": slicer,
        "prefix_certificates": prefixes,
        "prefix_stages": prefix_stages,
        "novelty": novelty,
        "overload_certificates": overload_points,
        "judges_calls": judges_calls,
        "longest_prompt": longest_prompt,
        "stated_slices": bool(data.get("stated_slices", slicer not in DETECTED)),
        "spelling": spelling,
        "score_quantiles": score_quantiles,
        # Few prompts at once: a second thread takes a third more processor time, and saves none beside other work.
        "encoder": Encoder(threads=1, products=products),
    }
