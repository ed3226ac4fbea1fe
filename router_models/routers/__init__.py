"""Router families by name. The registry is the list below; a new family is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router_models.routers.base import Router, RouterModel
from router_models.routers.constant import ConstantRouter
from router_models.routers.length import LengthRouter
from router_models.routers.linear import LinearRouter, SurfaceRouter

ROUTERS: Mapping[str, type[RouterModel]] = MappingProxyType(
    {cls.family: cls for cls in (ConstantRouter, LengthRouter, SurfaceRouter, LinearRouter)}
)

__all__ = ["ROUTERS", "ConstantRouter", "LengthRouter", "LinearRouter", "Router", "RouterModel", "SurfaceRouter"]
