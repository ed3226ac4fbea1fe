"""Rows of JSONL, CSV and parquet files, one after another; and results written beside them in the rows' order."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from serve_graph.api.batches.lines import in_one_line
from serve_graph.errors import ServeGraphError

READERS = (".jsonl", ".ndjson", ".csv", ".parquet")
ROWS_AT_ONCE = 1000
LONGEST_FIELD = 2**31 - 1
"""Of CSV; Python's own bound is 131,072 characters."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Files of rows. `prompt`: the column with the text; rows with a column `messages` are conversations instead.

    `counts`: how many rows of each file are read; None: all that there are.
    """

    files: tuple[str, ...]
    prompt: str = "prompt"
    counts: tuple[int, ...] | None = None

    @classmethod
    def found(cls, inputs: Sequence[str], prompt: str = "prompt", out: Path | None = None) -> Dataset:
        """The files that paths, globs and URIs name, those left out that a run writes to `out` and beside it.

        Raises ServeGraphError where one names none, or no known kind.
        """
        own = set() if out is None else {path.absolute() for path in (out, *beside(out))}
        files: list[str] = []
        for given in inputs:
            matching = _at_uri(given) if "://" in given else sorted(glob.glob(given, recursive=True))
            matching = [name for name in matching if "://" in name or Path(name).absolute() not in own]
            if not matching:
                raise ServeGraphError(f"no file is named {given}")
            files += matching
        for name in files:
            if not name.partition("?")[0].lower().endswith(READERS):
                raise ServeGraphError(f"{name} is none of {', '.join(READERS)}")
        return cls(tuple(dict.fromkeys(files)), prompt)

    def rows(self) -> Iterator[Row]:
        """Every row, in order; raises ServeGraphError naming the file and the row that cannot be read."""
        if self.counts is None:
            return chain.from_iterable(map(_rows_of, self.files))
        known = zip(self.files, self.counts, strict=True)
        return chain.from_iterable(islice(_rows_of(name), most) for name, most in known)

    def looked_at(self, look: Callable[[Row], None]) -> Dataset:
        """The same dataset without what is written to its files from now on, once every row was looked at.

        Raises ServeGraphError where a row cannot be read, and what `look` raises.
        """
        counts = []
        for name in self.files:
            rows = 0
            for row in _rows_of(name):
                look(row)
                rows += 1
            counts.append(rows)
        return replace(self, counts=tuple(counts))

    def messages(self, row: Row) -> list[Any]:
        """What a row asks; raises ServeGraphError where it asks nothing."""
        given = row.get("messages")
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError:
                given = None
        if isinstance(given, list) and given:
            return given
        text = row.get(self.prompt)
        if isinstance(text, str) and text.strip():
            return [{"role": "user", "content": text}]
        raise ServeGraphError(f"a row has neither `messages` nor text in the column {self.prompt!r}: {str(row)[:200]}")


def read_response_format(path: Path) -> dict[str, Any]:
    """What every row is asked with as `response_format`; raises ServeGraphError where a file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ServeGraphError(f"{path} holds no response_format: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ServeGraphError(f'{path} must hold a JSON object with a "type", such as {{"type": "json_schema", …}}')
    return found


def beside(out: Path) -> tuple[Path, ...]:
    """What a run writes beside a result that could be taken for rows."""
    return failed_rows_of(out), audit_of(out), labels_beside(audit_of(out))


def failed_rows_of(out: Path) -> Path:
    """The list of rows that failed, beside a result."""
    return out.with_name(f"{out.name}.failed.jsonl")


def audit_of(out: Path) -> Path:
    """The answers to look at, beside a result."""
    return out.with_name(f"{out.name}.audit.jsonl")


def labels_beside(sample: Path) -> Path:
    """Where the labels of a sample are, unless somebody says otherwise: beside it."""
    return sample.with_name(f"{sample.name.removesuffix('.jsonl')}.labels.jsonl")


def json_line(value: Any) -> str:
    """A line of a JSONL file; what JSON does not know is text."""
    return in_one_line(json.dumps(value, ensure_ascii=False, default=str)) + "\n"


def row_key(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What a row is known by: the sha256 of its contents and of what is asked of all. Equal rows are one."""
    text = json.dumps([dict(row), dict(settings)], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _rows_of(name: str) -> Iterator[Row]:
    kind = name.partition("?")[0].lower()
    import pyarrow as pa

    with _opened(name) as file:
        try:
            if kind.endswith(".parquet"):
                import pyarrow.parquet as pq

                whole = pq.ParquetFile(file)
                _check_columns(name, whole.schema_arrow.names)
                for group in whole.iter_batches(ROWS_AT_ONCE):
                    yield from group.to_pylist()
            elif kind.endswith(".csv"):
                text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
                csv.field_size_limit(LONGEST_FIELD)
                read = csv.DictReader(text, restkey="more", strict=True)
                _check_columns(name, list(read.fieldnames or ()))
                yield from read
            else:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield _json_row(name, number, line)
        except (ValueError, csv.Error, OSError, pa.ArrowException) as error:
            raise ServeGraphError(f"{name.partition('?')[0]} cannot be read: {error}") from None


def _check_columns(name: str, columns: list[str]) -> None:
    if twice := next((one for one in columns if columns.count(one) > 1), None):
        raise ServeGraphError(f"{name} has two columns {twice!r}: rename one")


def _json_row(name: str, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise ServeGraphError(f"{name}, line {number}: {error}") from None
    if not isinstance(row, dict):
        raise ServeGraphError(f"{name}, line {number} is no JSON object")
    return row


def _at_uri(given: str) -> list[str]:
    """A URI itself or, where its path has `*` or `[`, the files of that store that match, as URIs."""
    place, mark, query = given.partition("?")
    first = min((at for at in (place.find("*"), place.find("[")) if at >= 0), default=-1)
    if first < 0:
        return [given]
    import pyarrow as pa
    import pyarrow.fs as pafs

    base = place[: place.rindex("/", 0, first)]
    try:
        filesystem, root = pafs.FileSystem.from_uri(base + mark + query)
        found = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ServeGraphError(f"{base} cannot be listed: {error}") from None
    matches = re.compile(_as_pattern(place[len(base) + 1 :])).fullmatch
    below = sorted(one.path[len(root) :].lstrip("/") for one in found if one.type == pafs.FileType.File)
    return [f"{base}/{name}{mark}{query}" for name in below if matches(name)]


def _as_pattern(glob_path: str) -> str:
    """A glob as a regular expression: `*` stays in its folder, `**/` is any number of folders."""
    parts = re.split(r"(\*\*/|\*|\[[^\]]+\])", glob_path)
    known = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return "".join(known.get(part) or (_one_of(part) if part.startswith("[") else re.escape(part)) for part in parts)


def _one_of(part: str) -> str:
    """Characters in brackets as a regular expression has them: a glob excludes with `!`, and escapes none."""
    inside = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
    return f"[^{inside[1:]}]" if inside.startswith("!") else "[" + inside.replace("^", r"\^") + "]"


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """A file to read: of this machine, or of what pyarrow reaches by its URI (`s3://…`, `gs://…`)."""
    if "://" not in name:
        with Path(name).open("rb") as file:
            yield file
        return
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        filesystem, path = pafs.FileSystem.from_uri(name)
        opened = filesystem.open_input_file(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ServeGraphError(f"{name.partition('?')[0]} cannot be read: {error}") from None
    with opened:
        yield io.BufferedReader(opened)  # pyarrow's own has no lines


def write_results(out: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSONL or, where `out` ends in .parquet, as parquet; the file is replaced when all are written.

    Raises ServeGraphError where parquet cannot hold a column whose values are of different kinds.
    """
    scratch = out.with_name(f".{out.name}.part")
    count = 0
    left = iter(rows)
    try:
        if out.suffix != ".parquet":
            with scratch.open("w", encoding="utf-8") as file:
                for row in left:
                    file.write(json_line(row))
                    count += 1
        else:
            count = _write_parquet(scratch, left)
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _write_parquet(path: Path, rows: Iterator[Row]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    group, count = list(islice(rows, ROWS_AT_ONCE)), 0
    names = list(dict.fromkeys(chain.from_iterable(group)))  # pyarrow would take the first row's alone
    try:
        whole = pa.table({name: pa.array([row.get(name) for row in group]) for name in names})
        schema = _whole_schema(whole.schema)
        with pq.ParquetWriter(path, schema) as writer:
            while group:
                if more := set(chain.from_iterable(group)) - set(names):
                    raise TypeError(f"the first {ROWS_AT_ONCE} have no column {min(more)!r}")
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                count += len(group)
                group = list(islice(rows, ROWS_AT_ONCE))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ServeGraphError(
            f"parquet cannot hold these rows ({error}): write .jsonl instead, and rename OUT.journal after it, so "
            "that what is answered is not asked again"
        ) from None
    return count


def _whole_schema(schema: Any) -> Any:
    """Columns of which nothing was seen yet are text."""
    import pyarrow as pa

    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema])
