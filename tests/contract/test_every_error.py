import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import serve_graph
from serve_graph.errors import STATUS, ServeGraphError, error_body, status_of

PACKAGE = Path(serve_graph.__path__[0])
DEFINES_ERRORS = re.compile(r"^class \w+\(\w*Error\b", re.MULTILINE)


def every_exception() -> list[type[ServeGraphError]]:
    """Every ServeGraphError of the package, wherever it is defined."""
    for path in PACKAGE.rglob("*.py"):
        if DEFINES_ERRORS.search(path.read_text()):
            importlib.import_module(".".join(("serve_graph", *path.relative_to(PACKAGE).with_suffix("").parts)))
    return sorted(set(_below(ServeGraphError)), key=lambda kind: kind.__name__)


def _below(kind: type[ServeGraphError]) -> Iterator[type[ServeGraphError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _below(child)


def test_every_exception_class_has_a_status() -> None:
    missing = [kind.__name__ for kind in every_exception() if kind not in STATUS]
    assert missing == []


def test_every_status_is_an_error_with_a_word() -> None:
    for kind, (status, word) in STATUS.items():
        assert 400 <= status < 600, kind
        assert word.endswith("_error"), kind


def test_every_exception_says_when_it_is_raised() -> None:
    assert [kind.__name__ for kind in STATUS if not kind.__doc__] == []


def test_an_exception_outside_the_table_is_a_mistake_of_ours() -> None:
    stranger = type("StrangerError", (Exception,), {})
    with pytest.raises(KeyError):
        status_of(stranger("x"))


def test_error_body_has_openais_four_fields() -> None:
    assert error_body("m", "t", "p", "c") == {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}
