"""Measure scores and routers, with intervals. Pure: arrays and seeds in, numbers out.

`probability` measures ranking and loss, `smooth_calibration` calibration, `routing` the trade of strong calls for
quality, `cost` quality against dollars, `selective` the errors among the best-scored answers, `intervals` the
uncertainty of each.
"""

from router_models.metrics.cost import aiq, cost_quality
from router_models.metrics.intervals import Interval, bootstrap, bootstrap_values, interval_of
from router_models.metrics.probability import (
    ReliabilityBin,
    auc,
    auc_weighted,
    brier,
    brier_weighted,
    log_loss,
    log_loss_weighted,
    reliability,
    risk_by_coverage,
    selective_accuracy,
)
from router_models.metrics.routing import (
    RoutingCurve,
    RoutingSums,
    apgr,
    cpt,
    cpt_interpolated,
    gap_of,
    oracle_scores,
    pgr,
    random_curve,
    routellm_curve,
    routing_curve,
)
from router_models.metrics.selective import kept_within_weighted, risk_area_weighted
from router_models.metrics.smooth_calibration import smooth_calibration_error, smooth_calibration_error_weighted

__all__ = [
    "Interval",
    "ReliabilityBin",
    "RoutingCurve",
    "RoutingSums",
    "aiq",
    "apgr",
    "auc",
    "auc_weighted",
    "bootstrap",
    "bootstrap_values",
    "brier",
    "brier_weighted",
    "cost_quality",
    "cpt",
    "cpt_interpolated",
    "gap_of",
    "interval_of",
    "kept_within_weighted",
    "log_loss",
    "log_loss_weighted",
    "oracle_scores",
    "pgr",
    "random_curve",
    "reliability",
    "risk_area_weighted",
    "risk_by_coverage",
    "routellm_curve",
    "routing_curve",
    "selective_accuracy",
    "smooth_calibration_error",
    "smooth_calibration_error_weighted",
]
