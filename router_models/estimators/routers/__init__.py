"""The registry of router families by name; a new family is a file and a line here."""

from __future__ import annotations

from router_models.estimators.registry import Registry
from router_models.estimators.routers.base import Router, RouterModel
from router_models.estimators.routers.baselines.constant import ConstantRouter
from router_models.estimators.routers.baselines.length import LengthRouter
from router_models.estimators.routers.baselines.metadata import MetadataRouter
from router_models.estimators.routers.baselines.oracle import OracleRouter
from router_models.estimators.routers.baselines.random import RandomRouter
from router_models.estimators.routers.combined.default import DefaultRouter
from router_models.estimators.routers.combined.layered import LayeredRouter
from router_models.estimators.routers.combined.stacked import StackedRouter
from router_models.estimators.routers.combined.voted import VotedRouter
from router_models.estimators.routers.embedding.bradley_terry import BradleyTerryRouter
from router_models.estimators.routers.embedding.cluster_error import ClusterErrorRouter
from router_models.estimators.routers.embedding.knn import KnnRouter
from router_models.estimators.routers.embedding.matrix_factorisation import MatrixFactorisationRouter
from router_models.estimators.routers.embedding.preferences import PreferenceRouter
from router_models.estimators.routers.embedding.ridge import RidgeRouter
from router_models.estimators.routers.embedding.semantic import SemanticRouter
from router_models.estimators.routers.language_model.asked import AskedFirstRouter
from router_models.estimators.routers.language_model.encoder import EncoderRouter
from router_models.estimators.routers.language_model.p_yes import PYesRouter
from router_models.estimators.routers.language_model.probe import ProbeRouter
from router_models.estimators.routers.text.forest import ForestRouter
from router_models.estimators.routers.text.linear import LinearRouter, SurfaceRouter
from router_models.estimators.routers.text.surface_forest import SurfaceForestRouter
from router_models.estimators.routers.text.tfidf import TfidfRouter

ROUTERS: Registry[RouterModel] = Registry(
    "router",
    (
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
        PYesRouter,
        AskedFirstRouter,
        ProbeRouter,
        EncoderRouter,
        PreferenceRouter,
        VotedRouter,
    ),
)
"""Every router family, from baselines to learned ones; `ROUTERS["knn"]` is its class."""

__all__ = [
    "ROUTERS",
    "AskedFirstRouter",
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
    "PYesRouter",
    "PreferenceRouter",
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
    "VotedRouter",
]
