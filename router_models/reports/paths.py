"""The tests behind a certificate of all thresholds together: which configurations were tried, and how far it went."""

from __future__ import annotations

from collections.abc import Mapping

from router_models.reports.markdown import table
from router_models.risk_control.evidence import Thresholds
from router_models.risk_control.joint_path import JointPath


def path_section(paths: Mapping[str, JointPath], deployed: Thresholds) -> str:
    """The tests of the whole; with slices, in which of them each configuration was certified or ended the sequence.

    '' where there are none.
    """
    if not paths:
        return ""
    if set(paths) == {""}:
        return _path(paths[""], deployed)
    rows = [["configuration", "slices", "certified in (p)", "ended in (p)", ""]]
    # A slice's sequence ends at the configuration after the last that was rejected, or at its anchor.
    ends = {name: path.anchor - int(path.rejected.sum()) for name, path in paths.items()}
    for j, c in enumerate(next(iter(paths.values())).configurations):
        held = [f"{name} ({path.p_values[j]:.2g})" for name, path in paths.items() if path.rejected[j]]
        ended = [f"{name} ({path.p_values[j]:.2g})" for name, path in paths.items() if ends[name] == j]
        mark = "**deployed**" if c.thresholds == deployed else ""
        rows.append([str(j + 1), str(len(held)), ", ".join(held) or "–", ", ".join(ended) or "–", mark])
    return table(rows)


def _path(path: JointPath, deployed: Thresholds) -> str:
    rows = [["predicted risk, %", "predicted $ per 1,000", "answered", "wrong", "abstained", "p", "certified"]]
    for i, c in enumerate(path.configurations):
        notes = ["yes" if path.rejected[i] else "no"]
        notes += ["anchor"] if i == path.anchor else []
        notes += ["**deployed**"] if c.thresholds == deployed else []
        counts = [str(int(column[i])) for column in (path.answered, path.wrong, path.abstained)]
        rows.append(
            [f"{100 * c.risk:.1f}", f"{1000 * c.cost_usd:.4g}", *counts, f"{path.p_values[i]:.2g}", ", ".join(notes)]
        )
    return table(rows)
