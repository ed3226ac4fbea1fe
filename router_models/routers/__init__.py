"""Router families by name. The registry is the list below; a new family is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router_models.routers.asked import AskedRouter
from router_models.routers.base import Router, RouterModel
from router_models.routers.bradley_terry import BradleyTerryRouter
from router_models.routers.cluster_error import ClusterErrorRouter
from router_models.routers.constant import ConstantRouter
from router_models.routers.default import DefaultRouter
from router_models.routers.encoder import EncoderRouter
from router_models.routers.forest import ForestRouter
from router_models.routers.knn import KnnRouter
from router_models.routers.layered import LayeredRouter
from router_models.routers.length import LengthRouter
from router_models.routers.linear import LinearRouter, SurfaceRouter
from router_models.routers.matrix_factorisation import MatrixFactorisationRouter
from router_models.routers.metadata import MetadataRouter
from router_models.routers.oracle import OracleRouter
from router_models.routers.probe import ProbeRouter
from router_models.routers.random import RandomRouter
from router_models.routers.ridge import RidgeRouter
from router_models.routers.semantic import SemanticRouter
from router_models.routers.stacked import StackedRouter
from router_models.routers.surface_forest import SurfaceForestRouter
from router_models.routers.tfidf import TfidfRouter

ROUTERS: Mapping[str, type[RouterModel]] = MappingProxyType(
    {
        cls.family: cls
        for cls in (
            ConstantRouter,
            RandomRouter,
            OracleRouter,
            LengthRouter,
            SurfaceRouter,
            SurfaceForestRouter,
            MetadataRouter,
            SemanticRouter,
            KnnRouter,
            LinearRouter,
            RidgeRouter,
            TfidfRouter,
            ForestRouter,
            StackedRouter,
            DefaultRouter,
            MatrixFactorisationRouter,
            BradleyTerryRouter,
            ClusterErrorRouter,
            LayeredRouter,
            AskedRouter,
            ProbeRouter,
            EncoderRouter,
        )
    }
)

__all__ = [
    "ROUTERS",
    "AskedRouter",
    "BradleyTerryRouter",
    "ClusterErrorRouter",
    "ConstantRouter",
    "DefaultRouter",
    "EncoderRouter",
    "ForestRouter",
    "KnnRouter",
    "LayeredRouter",
    "LengthRouter",
    "LinearRouter",
    "MatrixFactorisationRouter",
    "MetadataRouter",
    "OracleRouter",
    "ProbeRouter",
    "RandomRouter",
    "RidgeRouter",
    "Router",
    "RouterModel",
    "SemanticRouter",
    "StackedRouter",
    "SurfaceForestRouter",
    "SurfaceRouter",
    "TfidfRouter",
]
