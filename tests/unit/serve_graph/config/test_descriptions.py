"""The configuration reference is generated from the models: every key has a description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from serve_graph.config.graph import GraphConfig


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in get_args(annotation):
        yield from sections(part)


def test_every_key_of_the_configuration_has_a_description() -> None:
    found = set(sections(GraphConfig))
    assert len(found) > 15
    bare = [f"{model.__name__}.{key}" for model in found for key, f in model.model_fields.items() if not f.description]
    assert bare == []
