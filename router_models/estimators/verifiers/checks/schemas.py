"""Check JSON values against a caller's JSON schema in bounded time and without a network.

Schemas come from callers, and a validator can be made to run for ever: by a regular expression that backtracks, by
references that double at every step. So patterns are not checked, references are counted, and remote ones unresolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_REFERENCES = 2_000
_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")
_DATA = ("enum", "const", "default", "examples")
_BY_PATTERN = ("patternProperties", "additionalProperties", "unevaluatedProperties")


class _TooManyReferencesError(Exception):
    pass


def matches_schema(value: object, schema: object) -> bool:
    """Return whether a value satisfies a schema as far as it can be checked.

    True where the schema is absent, itself invalid, or needs more than MAX_REFERENCES reference steps.
    """
    import jsonschema  # type: ignore[import-untyped]
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, Mapping | bool):
        return True
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        plain = _without_patterns(schema)
        kind.check_schema(plain)
        counted = jsonschema.validators.extend(kind, _counted(kind))
        return bool(counted(plain, registry=Registry()).is_valid(value))
    except (jsonschema.SchemaError, Unresolvable, _TooManyReferencesError):
        return True
    except RecursionError:
        return False


def _counted(kind: Any) -> dict[str, Any]:
    """Return the reference keywords of a validator class, raising once they have been followed too often."""
    followed = 0

    def counting(keyword: Any) -> Any:
        def follow(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[Any]:
            nonlocal followed
            followed += 1
            if followed > MAX_REFERENCES:
                raise _TooManyReferencesError
            yield from keyword(validator, reference, instance, schema) or ()

        return follow

    names = ("$ref", "$dynamicRef", "$recursiveRef")
    return {name: counting(kind.VALIDATORS[name]) for name in names if name in kind.VALIDATORS}


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
