"""The manifest of a folder, written last: every file's sha256 and size. Where it is the folder is complete."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from router_models.data.artifacts.bounded_json import parse_json_file, read_bounded
from router_models.errors import ArtifactError

MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 4 << 20
MOST_FILES = 10_000


def seal(folder: Path) -> str:
    """Write the manifest over every file in a folder.

    Parameters
    ----------
    folder : Path
        A folder whose files are complete.

    Returns
    -------
    str
        The folder's hash: the sha256 of its manifest.
    """
    files = {name: path for name, path in files_inside(folder).items() if name != MANIFEST}
    manifest = {name: {"sha256": file_sha256(path), "size": path.stat().st_size} for name, path in files.items()}
    text = json.dumps(manifest, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(folder: Path) -> str:
    """Check that a sealed folder holds exactly the files of its manifest.

    Sizes are compared before anything is hashed, so that a file that grew costs nothing.

    Parameters
    ----------
    folder : Path
        A sealed folder.

    Returns
    -------
    str
        The folder's hash.

    Raises
    ------
    ArtifactError
        Where there is no manifest, or naming the first file that is added, missing, altered, or no file of the folder:
        a link that leads out of it, a pipe.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder}: no {MANIFEST}; the folder is incomplete (a write that never finished?)")
    found = files_inside(folder)
    data = read_bounded(found.pop(MANIFEST), MOST_MANIFEST_BYTES)
    listed = _listed(folder / MANIFEST, data)
    if added := sorted(found.keys() - listed.keys()):
        raise ArtifactError(f"{folder / added[0]}: added after the folder was sealed")
    if missing := sorted(listed.keys() - found.keys()):
        raise ArtifactError(f"{folder / missing[0]}: named in the manifest but missing")
    for name, (_, size) in listed.items():
        if size is not None and (now := found[name].stat().st_size) != size:
            raise ArtifactError(f"{folder / name}: altered or half-written ({now} bytes, {size} in the manifest)")
    for name, (digest, _) in listed.items():
        if file_sha256(found[name]) != digest:
            raise ArtifactError(f"{folder / name}: altered or half-written (sha256 differs from the manifest)")
    return hashlib.sha256(data).hexdigest()


def sealed_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 by name that a sealed folder's manifest lists; ArtifactError where it lists none.

    What the files hold now only `verify` says.
    """
    path = folder / MANIFEST
    return {name: digest for name, (digest, _) in _listed(path, read_bounded(path, MOST_MANIFEST_BYTES)).items()}


def files_inside(folder: Path, *, hidden: bool = True, root: Path | None = None) -> dict[str, Path]:
    """Return every file of a folder by its relative name, sorted.

    Parameters
    ----------
    folder : Path
        A folder.
    hidden : bool
        Whether files and folders are included whose name begins with a dot.
    root : Path, optional
        Where links may lead to; by default the folder itself.

    Returns
    -------
    dict of str to Path

    Raises
    ------
    ArtifactError
        Naming what is no file of the folder: a link that leads out of it, a linked folder, a pipe, a device; or where
        there are more than MOST_FILES.
    """
    root = (root or folder).resolve()
    found: dict[str, Path] = {}
    waiting = [folder]
    while waiting:
        inside = waiting.pop()
        for path in inside.iterdir():
            if path.name.startswith(".") and not hidden:
                continue
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root)):
                raise ArtifactError(f"{path}: a link that leads out of the folder: put there what it leads to")
            if path.is_dir():
                waiting.append(path)
            elif path.is_file():
                found[str(path.relative_to(folder))] = path
            else:
                raise ArtifactError(f"{path}: neither a file nor a folder")
        if len(found) > MOST_FILES:
            raise ArtifactError(f"{folder}: more than {MOST_FILES} files")
    return dict(sorted(found.items()))


def _listed(path: Path, data: bytes) -> dict[str, tuple[str, int | None]]:
    """The hash and the size of every file that a manifest lists; releases before 0.3 listed hashes alone."""
    manifest = parse_json_file(path, data)
    if not isinstance(manifest, dict) or not manifest:
        raise ArtifactError(f"{path}: not a manifest of any file")
    listed: dict[str, tuple[str, int | None]] = {}
    for name, entry in manifest.items():
        digest, size = (entry.get("sha256"), entry.get("size")) if isinstance(entry, dict) else (entry, None)
        if not isinstance(digest, str) or not isinstance(size, int | None) or isinstance(size, bool):
            raise ArtifactError(f"{path}: not a manifest: {name!r:.200} has no sha256")
        listed[name] = digest, size
    return listed


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
