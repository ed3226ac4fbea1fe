"""Copies of versions' files on one machine: fetched once, whole or not at all, bounded, never taken from a holder."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from router_models.errors import ArtifactError
from router_models.versions.sealed.local_copies import LEFT_BEHIND_S, USED_LATELY_S, LocalCopies

GOOD = "as registered"


def check(folder: Path) -> None:
    if (folder / "content").read_text() != GOOD:
        raise ArtifactError(f"{folder}: altered")


def bringing(content: str = GOOD, size: int = 0, begun: Callable[[], object] = lambda: None) -> Callable[[Path], Path]:
    def fetch(into: Path) -> Path:
        begun()
        folder = into / "version"
        folder.mkdir()
        (folder / "content").write_text(content)
        (folder / "rest").write_bytes(bytes(size))
        return folder

    return fetch


def nothing(_: Path) -> Path:
    raise AssertionError("it was here already")


def unused(copies: LocalCopies, name: str, for_s: float = USED_LATELY_S + 60) -> None:
    """Let a copy have been used last so long ago."""
    then = time.time() - for_s
    os.utime(copies.root / name, (then, then))


def kept(copies: LocalCopies) -> list[str]:
    return sorted(path.name for path in copies.root.iterdir())


def test_a_copy_is_fetched_once_and_checked_each_time(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    folder = copies.get("a", bringing(), check)
    assert copies.get("a", nothing, check) == folder
    (folder / "content").write_text("other")
    with pytest.raises(ArtifactError):
        copies.get("a", nothing, check)


def test_of_many_who_want_one_at_once_one_fetches_it(tmp_path: Path) -> None:
    fetched: list[str] = []
    together = threading.Barrier(8)

    def ask(n: int) -> Path:
        together.wait(10)
        return LocalCopies(tmp_path).get("a", bringing(begun=lambda: fetched.append("a")), check)

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(ask, range(8)))
    assert (folders, fetched) == ({tmp_path / "a"}, ["a"])
    assert kept(LocalCopies(tmp_path)) == ["a"]


def test_two_copies_are_fetched_at_the_same_time(tmp_path: Path) -> None:
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        made = list(
            pool.map(lambda name: LocalCopies(tmp_path).get(name, bringing(begun=lambda: both.wait(10)), check), "ab")
        )
    assert [folder.name for folder in made] == ["a", "b"]


def test_what_is_not_as_registered_is_never_kept(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        LocalCopies(tmp_path).get("a", bringing("altered on its way"), check)
    assert kept(LocalCopies(tmp_path)) == []


def test_a_fetch_that_breaks_off_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def broken(into: Path) -> Path:
        bringing()(into)
        raise ConnectionError("the registry went away")

    copies = LocalCopies(tmp_path)
    with pytest.raises(ConnectionError):
        copies.get("a", broken, check)
    assert kept(copies) == []
    assert copies.get("a", bringing(), check) == tmp_path / "a"


def test_a_replica_mends_a_damaged_copy(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    (copies.get("a", bringing(), check) / "content").write_text("damaged")
    held = copies.hold("a", bringing(), check)
    assert (held.folder / "content").read_text() == GOOD
    assert kept(copies) == ["a"]


def test_of_too_many_the_one_used_longest_ago_goes(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    for n, name in enumerate("abc"):
        copies.get(name, bringing(), check)
        unused(copies, name, USED_LATELY_S + 60 - n)
    copies.get("a", nothing, check)
    assert LocalCopies(tmp_path, most=2).trim() == ["b"]
    assert kept(copies) == ["a", "c"]


def test_of_too_large_ones_likewise(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path, most_bytes=250)
    copies.get("a", bringing(size=100), check)
    unused(copies, "a")
    copies.get("b", bringing(size=100), check)
    assert kept(copies) == ["a", "b"]
    copies.get("c", bringing(size=100), check)
    assert kept(copies) == ["b", "c"]


def test_a_held_copy_stays_until_it_is_let_go(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path, most=1)
    held = copies.hold("a", bringing(), check)
    unused(copies, "a")
    copies.get("b", bringing(), check)
    assert kept(copies) == ["a", "b"]
    held.close()
    held.close()
    unused(copies, "a")
    assert copies.trim() == ["a"]


def test_a_copy_that_was_used_a_moment_ago_is_not_taken_from_its_reader(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path, most=1)
    for name in "ab":
        copies.get(name, bringing(), check)
    assert copies.trim() == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    (tmp_path / ".download-x").mkdir()
    unused(copies, ".download-x", LEFT_BEHIND_S + 1)
    (tmp_path / ".download-y").mkdir()
    copies.get("a", bringing(), check)
    assert kept(copies) == [".download-y", "a"]


def test_who_finds_a_copy_damaged_that_another_has_mended_meanwhile_leaves_the_new_one(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    folder = copies.get("a", bringing(), check)
    (folder / "content").write_text("other")
    looks = list[Path]()

    def slow_check(found: Path) -> None:
        looks.append(found)
        if len(looks) > 1:
            return check(found)
        copies.hold("a", bringing(size=7), check).close()
        raise ArtifactError(f"{found}: it was read before it was mended")

    held = copies.hold("a", nothing, slow_check)
    assert (held.folder / "rest").stat().st_size == 7
    held.close()
