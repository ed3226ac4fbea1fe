"""Compare two JSON values."""

from decimal import Decimal, InvalidOperation

CLOSE = Decimal("0.000001")
"""By how much two numbers of an extracted value may differ: as they are rounded, not by a part of them."""


def same(left: object, right: object, *, loose: bool = False) -> bool:
    """Return whether two JSON values are equal; true is not 1, 6 is 6.0, floats agree to 1e-6.

    With `loose`, scalars are compared as trimmed text in any case, so that 42 and "42" are the same.
    Values nested deeper than Python recurses are never the same.
    """
    try:
        return _same(left, right, loose)
    except RecursionError:
        return False


def agrees(found: object, wanted: object) -> bool:
    """Return whether an extracted value says what it should.

    Numbers are numbers in either writing, on either side, "12.50" too, and equal to 1e-6; other texts count in any
    case and with any white space.
    """
    try:
        return _agrees(found, wanted)
    except RecursionError:
        return False


def _agrees(found: object, wanted: object) -> bool:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_agrees(found[key], wanted[key]) for key in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(_agrees(a, b) for a, b in zip(found, wanted, strict=True))
    if isinstance(wanted, int | float) or isinstance(found, int | float):
        left, right = _number(found), _number(wanted)
        if left is not None and right is not None:
            return abs(left - right) <= CLOSE
    if isinstance(found, str) and isinstance(wanted, str):
        return " ".join(found.casefold().split()) == " ".join(wanted.casefold().split())
    return found is wanted


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(value if isinstance(value, int) else str(value).strip())
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() and number.adjusted() < 400 else None


def _same(left: object, right: object, loose: bool) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key], loose) for key in right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(a, b, loose) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict | list) or isinstance(right, dict | list):
        return False
    if loose and left is not None and right is not None:
        return str(left).strip().casefold() == str(right).strip().casefold()
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, float) or isinstance(right, float):
        return isinstance(left, int | float) and isinstance(right, int | float) and _near(left, right)
    return left == right


def _near(left: float, right: float) -> bool:
    try:
        return left == right or abs(left - right) <= 1e-6 * max(1.0, abs(right))
    except OverflowError:
        return False
