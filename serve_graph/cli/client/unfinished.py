"""What a run of `collect` keeps beside its table until the table is finished: outcomes, engines, failures."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from router_models.data.formats import frame_to_outcomes, read_frame
from router_models.data.formats.token_columns import TOKEN_COLUMNS
from router_models.types import Outcome, Usage
from serve_graph.errors import ServeGraphError
from serve_graph.policy.bindings import collected_binds, write_collected_binds


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold why one task has no outcome of one tier."""

    task: str
    prompt_id: str
    tier: str
    reason: str


def partial_of(out: Path) -> Path:
    """Where the outcomes of an unfinished run are kept."""
    return out.with_name(out.name + ".partial.jsonl")


def failures_of(out: Path) -> Path:
    """Where the failures of the last run are listed, with their reasons; there is no file where there were none."""
    return out.with_name(out.name + ".failed.jsonl")


def claim(out: Path, binds: Mapping[str, str] | None) -> Path:
    """Return the partial file for these engines, noting them where there is none yet.

    Raise ServeGraphError when it holds the answers of other engines: an outcomes table is of one set of engines.
    """
    partial = partial_of(out)
    noted = collected_binds(partial)
    if partial.exists() and noted != binds:
        known = {*(noted or {}), *(binds or {})}
        changed = sorted(key for key in known if (noted or {}).get(key) != (binds or {}).get(key))
        raise ServeGraphError(
            f"{partial} was begun with other engines: {', '.join(changed)} differ. Go back to that configuration to "
            f"finish it, or remove {partial} to begin again"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_collected_binds(partial, binds)
    partial.touch()
    return partial


def other_tiers(out: Path, tiers: Sequence[str], binds: Mapping[str, str] | None) -> list[Outcome]:
    """The rows of a finished table that asking only `tiers` again leaves in it; none where there is no table yet.

    Raise ServeGraphError when they are of other engines than those that are asked now.
    """
    if not out.exists():
        return []
    others = [row for row in _rows(out) if row.tier not in tiers]
    if others and collected_binds(out) != binds:
        raise ServeGraphError(
            f"{out} is of other engines than these: its other tiers cannot stay; choose another --out"
        )
    return others


def refuse_finished(out: Path) -> None:
    """Raise ServeGraphError when `out` is a finished table: no run is under way, and no failure is left to retry."""
    if out.exists() and not partial_of(out).exists() and not failures_of(out).exists():
        raise ServeGraphError(f"{out} is complete; --overwrite asks everything again and replaces it")


def reopen(out: Path, prompts: Collection[str], tiers: Sequence[str], binds: Mapping[str, str] | None) -> None:
    """Take up a table that was finished without its failures (--skip-failed), so that a run asks only those.

    Its rows become outcomes of a run under way; the table stays until the new one replaces it. Nothing is done where
    a run is under way. `prompts` are the ids of the tasks: raise ServeGraphError where the table holds others.
    """
    if not out.exists() or partial_of(out).exists() or not failures_of(out).exists():
        return
    rows = _rows(out)
    if collected_binds(out) != binds or not {row.prompt_id for row in rows} <= set(prompts):
        raise ServeGraphError(
            f"{out} was finished without {failures_of(out).name}, from other tasks or engines than these: give those "
            "to ask what failed again, or replace it with --overwrite"
        )
    scratch = partial_of(out).with_name(partial_of(out).name + ".tmp")
    scratch.write_bytes(b"".join(_line(row) for row in rows if row.tier in tiers))
    write_collected_binds(partial_of(out), binds)
    scratch.replace(partial_of(out))


def read_partial(path: Path) -> list[Outcome]:
    """The outcomes of an unfinished run; a line cut short when it was killed is left out, to be asked again."""
    if not path.exists():
        return []
    outcomes = {}
    for line in path.read_bytes().split(b"\n"):  # not splitlines: JSON leaves U+2028 and its like inside a line
        try:
            data = json.loads(line)
            tokens = {name: tuple(data.get(name, ())) for name in TOKEN_COLUMNS}
            outcome = Outcome(**data | tokens | {"usage": Usage(**data["usage"])})
            outcomes[outcome.prompt_id, outcome.tier] = outcome
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return list(outcomes.values())


def open_partial(path: Path) -> IO[bytes]:
    """Open the partial file to append outcomes; what a killed run left of a line does not swallow the next one."""
    log = path.open("ab+")
    log.seek(0, 2)
    if log.tell():
        log.seek(-1, 2)
        if log.read(1) != b"\n":
            log.write(b"\n")
    return log


def keep(log: IO[bytes], outcome: Outcome) -> None:
    """Append an outcome to the partial file."""
    log.write(_line(outcome))
    log.flush()


def write_failures(out: Path, failures: Sequence[Failure]) -> None:
    """Replace the list of failures; without any there is no file."""
    if not failures:
        failures_of(out).unlink(missing_ok=True)
        return
    lines = (json.dumps(asdict(failure), ensure_ascii=True) + "\n" for failure in failures)
    failures_of(out).write_text("".join(lines), encoding="utf-8")


def _rows(out: Path) -> list[Outcome]:
    """The outcomes of a table that `collect` wrote; ServeGraphError where it is none, or was changed since."""
    try:
        return frame_to_outcomes(read_frame(out))
    except (ValueError, TypeError) as error:
        message = " ".join(str(error).removeprefix(f"{out}: ").split())
        raise ServeGraphError(f"{out}: not a table that `collect` wrote ({message}): choose another --out") from error


def _line(outcome: Outcome) -> bytes:
    return (json.dumps(asdict(outcome), ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
