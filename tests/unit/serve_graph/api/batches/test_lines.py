"""Reading an input file in pieces: whatever the pieces are, the lines are the same."""

import io
import json
from typing import Any

import pytest

from serve_graph.api.batches import lines
from serve_graph.api.batches.lines import MOST_ERRORS, InputCheck, Line, read_lines


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 20])
def test_lines_do_not_depend_on_the_pieces_that_are_read(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FILE_PIECE", piece)
    content = b"\xef\xbb\xbfone\r\n\r\n two\n" + b"x" * 50 + b"\n" + b"y" * 10 + b"\r\nlast"
    assert list(read_lines(io.BytesIO(content), 10)) == [
        Line(1, b"one"), Line(3, b" two"), Line(4, b"x" * 10, True), Line(5, b"y" * 10), Line(6, b"last"),
    ]  # fmt: skip


def test_no_more_of_a_long_line_is_in_memory_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        left = 200

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"x" * size if self.left else b""

    [one] = read_lines(Endless(), 100)  # type: ignore[arg-type]
    assert (one.too_long, len(one.text)) == (True, 100)


def test_texts_to_embed_are_counted_one_by_one() -> None:
    def errors(*inputs: Any) -> list[str]:
        check = InputCheck("/v1/embeddings", 6, 1000)
        for number, given in enumerate(inputs, 1):
            body = {"model": "e", "input": given}
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
            if not check.add(Line(number, json.dumps(line).encode())):
                break
        return [error["code"] for error in check.done()]

    assert errors("a", ["b", "c"], [[1, 2], [3]], [1, 2, 3]) == []
    assert errors("a", ["b", "c"], [[1, 2], [3]], ["d", "e"]) == ["too_many_tasks"]


def test_the_first_hundred_faults_are_told() -> None:
    check = InputCheck("/v1/embeddings", 10_000, 100)
    looked_at = sum(check.add(Line(n, b"no")) for n in range(1, 500) if len(check.errors) < MOST_ERRORS)
    assert looked_at == MOST_ERRORS - 1
    assert [error["line"] for error in check.done()] == list(range(1, MOST_ERRORS + 1))
