"""Check JSON values against a caller's JSON schema in bounded time and without a network.

Schemas come from callers, and a validator can be made to run for ever: by a regular expression that backtracks, by
references that double at every step, by thousands of alternatives. So patterns are not checked, remote references are
not followed, the schema's nodes and the validator's steps are counted, and what exceeds its budget does not match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_NODES = 2_000
"""Objects and arrays of a schema that is checked; checking the schema itself takes about 0.1 ms for each."""
MAX_STEPS = 20_000
"""Keywords that are applied to values, of which one takes some 10 µs."""
MAX_UNIQUE = 300
"""Elements of an array that are compared with each other, pair by pair."""
_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")
_DATA = ("enum", "const", "default", "examples")
_BY_PATTERN = ("patternProperties", "additionalProperties", "unevaluatedProperties")


class _OverBudgetError(Exception):
    pass


def matches_schema(value: object, schema: object) -> bool:
    """Return whether a value satisfies a schema as far as it can be checked.

    Parameters
    ----------
    value, schema : object
        JSON values.

    Returns
    -------
    bool
        True where the schema is absent or itself invalid; False where checking would exceed `MAX_NODES`, `MAX_STEPS`
        or `MAX_UNIQUE`, or the recursion limit: nothing is known of such a value.
    """
    import jsonschema  # type: ignore[import-untyped]
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, Mapping | bool):
        return True
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        if nodes(schema, MAX_NODES) > MAX_NODES:
            return False
        plain = _without_patterns(schema)
        kind.check_schema(plain)
        counted = jsonschema.validators.extend(kind, _counted(kind))
        return bool(counted(plain, registry=Registry()).is_valid(value))
    except (jsonschema.SchemaError, Unresolvable):
        return True
    except (_OverBudgetError, RecursionError, ArithmeticError):  # numbers beyond floats cannot be divided
        return False


def nodes(value: object, most: int) -> int:
    """Return the number of objects and arrays in a JSON value; counting ends beyond `most`."""
    found, left = 0, [value]
    while left and found <= most:
        node = left.pop()
        children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else None
        if children is not None:
            found += 1
            left += [child for child in children if isinstance(child, Mapping | list | tuple)]
    return found


def _counted(kind: Any) -> dict[str, Any]:
    """Return the keywords of a validator class, raising once they have been applied too often."""
    steps = 0

    def counting(name: str, keyword: Any) -> Any:
        def apply(validator: Any, expected: Any, instance: Any, schema: Any) -> Iterator[Any]:
            nonlocal steps
            steps += 1 + (len(expected) // 50 if isinstance(expected, list | Mapping) else 0)
            if steps > MAX_STEPS:
                raise _OverBudgetError
            if name == "uniqueItems" and isinstance(instance, list) and len(instance) > MAX_UNIQUE:
                raise _OverBudgetError
            yield from keyword(validator, expected, instance, schema) or ()

        return apply

    return {name: counting(name, keyword) for name, keyword in kind.VALIDATORS.items()}


def _without_patterns(schema: Any, top: bool = True) -> Any:
    """Return a schema without regular expressions and without the `$schema` of subschemas, which would restore them.

    Where properties are matched by pattern, it is unknown which of them are additional, and that is not checked.
    """
    if isinstance(schema, list):
        return [_without_patterns(item, False) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept: dict[str, Any] = {}
    for name, inner in schema.items():
        dropped = name == "pattern" or (name == "$schema" and not top)
        dropped = dropped or (name in _BY_PATTERN and "patternProperties" in schema)
        if dropped:
            continue
        if name in _DATA:
            kept[name] = inner
        elif name in _SCHEMAS and isinstance(inner, Mapping):
            kept[name] = {key: _without_patterns(item, False) for key, item in inner.items()}
        else:
            kept[name] = _without_patterns(inner, False)
    return kept
