"""Detect the shape of answer that a prompt asks for, and whether an answer has it (English, German, Spanish).

`asked_shape` reads the request ("only the number", "als JSON", "en una palabra"), `has_shape` looks at the answer.
Both are heuristics for a statistical verifier: a miss costs a little information, not correctness.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

SHAPE_CHARS = 20_000
ASK_CHARS = 6000

_ONLY = r"(?:only|just|(?:a |one )?single|nothing but|nur|lediglich|bloß|solo|sólo|solamente|únicamente)"
_WITH = r"(?:(?:answer|reply|respond) with|antworte mit|responde con|give|gib)"
_ARTICLE = r"(?:an? |the |one |ein(?:e|en|em)? |de[rmn] |das |die |una? |el |la )?"
_ASKS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "json": re.compile(
            r"\b(?:return|write|give|produce|output|create|make|extract|convert|turn|respond|reply|answer|format"
            r"|gib|schreib\w*|erstelle|antworte|devuelve|escrib[ea]|responde|crea|da)\b[^.?!\n]{0,60}\bjson\b"
            rf"|\b(?:as|als|como|valid|gültiges|formato|{_ONLY})\s+{_ARTICLE}(?:valid |gültiges )?json\b",
            re.I,
        ),
        "code": re.compile(
            r"\b(?:write|implement|define|complete|create|schreibe?|implementiere|escrib[ea]|implementa|define)\b.{0,60}"
            r"\b(?:function|method|class|program|script|code|funktion|methode|programm|función|método|programa|código)\b",
            re.I | re.S,
        ),
        "yes_no": re.compile(
            r"\b(?:yes or no|yes/no|true or false|ja oder nein|wahr oder falsch|sí o no|verdadero o falso)\b", re.I
        ),
        "date": re.compile(r"\b(?:yyyy-mm-dd|jjjj-mm-tt|aaaa-mm-dd|iso 8601)\b", re.I),
        "letter": re.compile(
            rf"\b(?:{_ONLY}|{_WITH}) {_ARTICLE}(?:letter|buchstaben?|letra)\b|\n(?:letter|buchstabe|letra):\s*\Z"
            r"|(?<=\n)[^\S\n]*\(?B[.):]\s[^\n]*\n\s*\(?C[.):]\s",
            re.I,
        ),
        "number": re.compile(
            rf"\b(?:{_ONLY}|{_WITH}) {_ARTICLE}(?:number|integer|digits?|numeral|zahl|ziffern?|número|cifras?)\b", re.I
        ),
        "word": re.compile(
            rf"\b(?:one|{_ONLY}|{_WITH}) {_ARTICLE}(?:word|wort|palabra)\b"
            r"|\b(?:einem|ein) wort\b|\buna (?:sola )?palabra\b",
            re.I,
        ),
        "list": re.compile(
            r"\b(?:comma[- ]separated|separated by (?:a )?commas?|(?:durch|mit) kommas? getrennt|kommagetrennt"
            r"|separad[oa]s por comas)\b",
            re.I,
        ),
        "amount": re.compile(
            r"\bhow (?:many|much)\b|\bwie ?viele?\b|\bcuánt[oa]s?\b|\b(?:calculate|compute|berechne|calcula)\b", re.I
        ),
    }
)
SHAPES = tuple(_ASKS)

_NUMBER = re.compile(r"[-+−]?[\d][\d.,:/'’ \u00a0]*(?:%|[a-zA-Z°€$£²³/]{1,6})?")
_AMOUNT = re.compile(
    r"\d|\b(?:none|no|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|null|kein\w*|eins?|zwei|drei|vier"
    r"|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|ningun\w*|cero|un[oa]?|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez"
    r"|once|doce)\b",
    re.I,
)
_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*\s*\n?(.*?)(?:```|\Z)", re.S)


def asked_shape(prompt: str) -> str:
    """Return the shape a prompt asks for, one of SHAPES, or '' for free text. Of a long prompt the end is read."""
    text = prompt[-ASK_CHARS:]
    return next((name for name, pattern in _ASKS.items() if pattern.search(text)), "")


def has_shape(name: str, answer: str) -> bool:
    """Return whether an answer has the named shape; True for '' (free text has any shape)."""
    return not name or _TESTS[name](answer[:SHAPE_CHARS].strip())


def parse_json_answer(answer: str) -> tuple[bool, object]:
    """Return (True, value) of the JSON in an answer: all of it, its first fence, or from its first bracket on."""
    candidates = [answer, *(match.strip() for match in _FENCE.findall(answer)[:1])]
    for text in candidates:
        try:
            return True, json.loads(text)
        except (ValueError, RecursionError):
            continue
    start = min((i for i in (answer.find("{"), answer.find("[")) if i >= 0), default=-1)
    if start >= 0:
        try:
            return True, json.JSONDecoder().raw_decode(answer[start:])[0]
        except (ValueError, RecursionError):
            pass
    return False, None


def code_of(answer: str) -> str:
    """Return the program in an answer: its longest fence, or the whole where there is none."""
    return max((match for match in _FENCE.findall(answer)), key=len, default=answer)


def parses_as_python(code: str) -> bool:
    """Return whether code is Python that is more than a bare name or number. Never runs it."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in body)


def _bare(answer: str) -> str:
    return answer.strip(" \t\r\n.*_`'\"“”„«»()[]:")


def _is_letter(answer: str) -> bool:
    return re.match(r"\W{0,3}[^\W\d_](?:\W{0,3}$|[).:,\]]|\s*[-–]\s)", answer) is not None


def _is_yes_no(answer: str) -> bool:
    return (
        re.match(r"\W{0,3}(?:yes|no|true|false|ja|nein|wahr|falsch|sí|si|verdadero|falso)\b", answer, re.I) is not None
    )


_TESTS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "json": lambda answer: parse_json_answer(answer)[0],
        "code": lambda answer: parses_as_python(code_of(answer)),
        "letter": _is_letter,
        "yes_no": _is_yes_no,
        "date": lambda answer: re.search(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)", answer) is not None,
        "number": lambda answer: _NUMBER.fullmatch(_bare(answer)) is not None,
        "list": lambda answer: "," in answer and len(answer.splitlines()) <= 2,
        "amount": lambda answer: _AMOUNT.search(answer) is not None,
        "word": lambda answer: 0 < len(_bare(answer).split()) <= 2,
    }
)
