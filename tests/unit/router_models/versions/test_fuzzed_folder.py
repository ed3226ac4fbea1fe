"""Whatever is done to a saved version: it loads as it was, or one of our own errors names the file.

Half of the folders are sealed again, as somebody would who can write to the registry's files: what loads then has
another digest, and the registry's tag tells it from what was registered.
"""

import io
import json
import os
import shutil
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.artifacts import MANIFEST, seal
from router_models.errors import ArtifactError, CertificateError
from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import ROUTERS
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Prompts
from router_models.versions.registry import MANIFEST_TAG, RegisteredVersion
from router_models.versions.router_version import RouterVersion, Stage
from tests.unit.router_models.versions.made_version import version

FILES = ("policy.json", "certificate.json", "cheap.router.json", "cheap.router.npz", "cheap.router_calibrator.npz")
ADDED = ("chat_template.jinja", "evil.py", "cheap.router.pkl", "certificate.json.bak", "sub/x.npz", ".hidden")
VALUES = (None, "x", -1, 0.5, 1e308, 2**70, [], {}, True, float("nan"), "../../etc/passwd", [[[]]], 10**30)
MOST_MEMORY, MOST_SECONDS = 48 << 20, 5.0
Mutation = Callable[[Path], None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A version's folder, and the digest that it was registered with."""
    folder = tmp_path_factory.mktemp("saved") / "v"
    rng = np.random.default_rng(0)
    grades = (rng.random(60) < 0.5).astype(float)
    router = ROUTERS["tfidf"]().fit(Prompts(tuple(f"question {i % 7} of {i % 3}" for i in range(60))), grades)
    platt = CALIBRATORS["isotonic"]().fit(rng.random(60), grades)
    version(Stage(router, platt, NonEmptyVerifier(), platt)).save(folder)
    return folder, RouterVersion.load(folder).digest


def flipped(file: str, at: int, bit: int) -> Mutation:
    def change(folder: Path) -> None:
        data = bytearray((folder / file).read_bytes())
        data[at % len(data)] ^= 1 << bit
        (folder / file).write_bytes(data)

    return change


def cut(file: str, at: int) -> Mutation:
    return lambda folder: os.truncate(folder / file, at % (folder / file).stat().st_size)


def extended(file: str, data: bytes) -> Mutation:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes() + data) and None


def swapped(one: str, other: str) -> Mutation:
    def change(folder: Path) -> None:
        first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
        (folder / one).write_bytes(second)
        (folder / other).write_bytes(first)

    return change


def removed(file: str) -> Mutation:
    return lambda folder: (folder / file).unlink()


def added(name: str) -> Mutation:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"raise SystemExit")

    return change


def linked(file: str) -> Mutation:
    def change(folder: Path) -> None:
        shutil.move(folder / file, folder.parent / "outside")
        (folder / file).symlink_to(folder.parent / "outside")

    return change


def rewritten(file: str, edit: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> Mutation:
    """Unpack an archive, edit its members, and pack them again: with sums that are right."""

    def change(folder: Path) -> None:
        with zipfile.ZipFile(folder / file) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in edit(members):
                archive.writestr(name, data)
        (folder / file).write_bytes(out.getvalue())

    return change


def declared(shape: str, descr: str) -> Mutation:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
    return rewritten("cheap.router.npz", lambda members: [(members[0][0], array), *members[1:]])


def renamed(shift: int) -> Mutation:
    def edit(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        names = [name for name, _ in members]
        return [(names[(i + shift) % len(names)], data) for i, (_, data) in enumerate(members)]

    return rewritten("cheap.router.npz", edit)


def more_members(count: int) -> Mutation:
    return rewritten("cheap.router.npz", lambda members: [*members, *((f"{i}.npy", b"") for i in range(count))])


def bomb(mebibytes: int) -> Mutation:
    return rewritten("cheap.router.npz", lambda members: [*members[1:], (members[0][0], bytes(mebibytes << 20))])


def with_value(file: str, at: int, value: object) -> Mutation:
    """Put another value in one place of a JSON file."""

    def change(folder: Path) -> None:
        data = json.loads((folder / file).read_text())
        places = list(_places(data))
        inside, key = places[at % len(places)]
        inside[key] = value
        (folder / file).write_text(json.dumps(data))

    return change


def _places(data: Any) -> Any:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


def with_text(file: str, text: str) -> Mutation:
    return lambda folder: (folder / file).write_text(text) and None


files = st.sampled_from(FILES)
documents = st.sampled_from(["policy.json", "certificate.json"])
mutations = st.one_of(
    st.builds(flipped, files, st.integers(0, 1 << 16), st.integers(0, 7)),
    st.builds(cut, files, st.integers(0, 1 << 16)),
    st.builds(extended, files, st.binary(min_size=1, max_size=64)),
    st.builds(swapped, files, files),
    st.builds(removed, st.sampled_from((*FILES, MANIFEST))),
    st.builds(added, st.sampled_from(ADDED)),
    st.builds(linked, st.sampled_from((*FILES, MANIFEST))),
    st.builds(
        declared,
        st.sampled_from(["(1099511627776,)", "(1000000,)", "(0,)", "(8,)", "(2, 4)", "()", "(-8,)", "(True,)", "8"]),
        st.sampled_from(["'<f8'", "'|O'", "'<U999999999'", "'<i8'", "'|V8'", "[('a', '|O')]", "'nonsense'"]),
    ),
    st.builds(renamed, st.integers(1, 3)),
    st.builds(more_members, st.sampled_from([1, 5_000])),
    st.builds(bomb, st.sampled_from([1, 40])),
    st.builds(with_value, documents, st.integers(0, 1 << 10), st.sampled_from(VALUES)),
    st.builds(with_text, st.sampled_from((*FILES, MANIFEST)), st.sampled_from(["", "{}", "[]", "7", "[" * 100_000])),
)


def outcome(folder: Path) -> tuple[RouterVersion | None, str]:
    """The version that a folder holds, or none and our own error's words; any other error is the test's failure."""
    try:
        return RouterVersion.load(folder), ""
    except (ArtifactError, CertificateError) as error:
        return None, str(error)


@settings(max_examples=120, deadline=None)
@given(mutation=mutations, sealed_again=st.booleans())
def test_a_changed_folder_loads_as_it_was_or_is_refused_by_our_own_error(
    saved: tuple[Path, str], mutation: Mutation, sealed_again: bool
) -> None:
    original, registered = saved
    folder = original.parent / "mutated" / "v"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(original, folder)
    mutation(folder)
    if sealed_again:
        with suppress(ArtifactError):  # a link that leads out is not sealed either
            seal(folder)
    began = time.process_time()
    tracemalloc.start()
    loaded, said = outcome(folder)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < MOST_SECONDS
    assert most < MOST_MEMORY
    if loaded is None:
        assert str(folder) in said
    elif loaded.digest != registered:
        assert sealed_again
        with pytest.raises(ArtifactError, match="differs from the one that was registered"):
            RegisteredVersion("", "router", "1", "", {MANIFEST_TAG: registered}, ()).check(folder)
