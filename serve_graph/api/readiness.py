"""Who is told how much of `/readyz`: everybody one word, keys what concerns them, administrators all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_graph.access.caller import Caller

FOR_KEYS = ("tiers", "tiers_ready", "version", "certified", "valid_until", "headline", "spills", "coverage", "binds")
"""What any key is told as it is; reasons and faults, which may name accounts, prices or a registry, are admins'."""
ADMINS_KNOW = "nothing at present; administrators are told why"


def readiness_for(caller: Caller, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return as much of a readiness report as this caller may know; `status` is `ready` or `not ready`."""
    word = {"status": "ready" if report["ready"] else "not ready", "ready": report["ready"]}
    if caller.stranger:
        return word
    if caller.may("admin"):
        return word | dict(report)
    told = word | {name: report[name] for name in FOR_KEYS if name in report}
    if "promise" in report:
        told["promise"] = report["promise"] if report.get("certified") else ADMINS_KNOW
    if "alarms" in report:
        told["alarms"] = [{name: a[name] for name in ("kind", "raised_at", "acts")} for a in report["alarms"]]
    void = report.get("void", {})
    told["void"] = dict.fromkeys(void, ADMINS_KNOW)
    prefixes = report.get("prefixes", {})
    told["prefixes"] = {tier: ADMINS_KNOW if f"prefix:{tier}" in void else text for tier, text in prefixes.items()}
    return told
