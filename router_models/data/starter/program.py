"""Mark a program: find the code in an answer, run it on hidden cases, compare what it returns."""

import ast
import re
import warnings
from collections.abc import Mapping

from router_models.data.starter import sandbox
from router_models.data.starter.compare import same

_FENCE = re.compile(r"```[^\S\n]*(?:python|py|python3)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_START = re.compile(r"^(?:def|import|from|class|@)\b|^@", re.MULTILINE)
_LONGEST_ANSWER = 8_000


def marks_program(reference: Mapping[str, object], answer: str) -> bool:
    """Accept code whose `function` returns the second of every pair in `cases` for the arguments in the first."""
    function, cases = reference["function"], reference["cases"]
    if not isinstance(function, str) or not isinstance(cases, list | tuple):
        raise TypeError(f"program grader: need 'function' and 'cases', got {function!r} and {cases!r}")
    code = find_code(answer, function)
    if code is None:
        return False
    returned = sandbox.call(code, function, [arguments for arguments, _ in cases])
    return returned is not None and all(
        same(got, expected) for got, (_, expected) in zip(returned, cases, strict=True)
    )


def find_code(answer: str, function: str) -> str | None:
    """Return the longest stretch of the answer that parses and defines `function`, or None.

    Fenced blocks are joined; without a good one the code starts at the first line that looks like Python. Lines at
    the end that do not parse (prose, a cut-off line) are dropped.
    """
    text = answer[:_LONGEST_ANSWER]
    start = _START.search(text)
    unfenced = text[start.start() :].split("```")[0] if start else ""
    for source in ("\n".join(_FENCE.findall(text)), unfenced):
        lines = source.splitlines()
        for end in range(len(lines), max(0, len(lines) - 40), -1):
            code = "\n".join(lines[:end])
            if _defines(code, function):
                return code
    return None


def _defines(code: str, function: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)
