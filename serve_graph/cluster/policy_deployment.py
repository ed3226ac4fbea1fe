"""Router and verifier as Ray Serve deployments: each builds a RouterVersion and forwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from router_models.types import Action, Completion, Decision, Query, Verdict
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import WhenUncovered
from serve_graph.policy.validity import CertificateStatus, Clock, Validity, utc_now


class PolicyDeployment:
    """A loaded RouterVersion, asked for decisions or verdicts. One class, two deployments.

    Once its certificate has ended it decides on the last tier only; the ingress, which checks too, does not ask then.
    So it does on prompts that lie farther from the training data than was certified, unless `uncovered` is `route`.
    """

    def __init__(
        self,
        folder: str,
        validity: Validity | None = None,
        uncovered: WhenUncovered = "last_tier",
        *,
        clock: Clock | None = None,
    ) -> None:
        self.version = replace(RouterVersion.load(Path(folder)), novel_to_top=uncovered == "last_tier")
        self.certificate_status = CertificateStatus(validity, self.version.name, clock or utc_now)
        self._warm_up()

    def _warm_up(self) -> None:
        """Load the encoder and the models' libraries before the first request pays for them."""
        query = Query.from_prompt("warm-up")
        decision = self.version.decide(query)
        completion = Completion("warm-up", token_logprobs=(-0.1, -0.2))
        for tier in self.version.stages:
            self.version.estimate(query, completion, Decision(tier, "warm-up", decision.p_cheap_ok))

    async def decide(self, query: Query) -> Decision:
        if fault := self.certificate_status.fault():
            return Decision(self.version.policy.top, fault)
        return self.version.decide(query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        fault = self.certificate_status.fault()
        if fault and decision.tier != self.version.policy.top:
            return Verdict(Action.ESCALATED, fault)
        return self.version.judge(query, completion, decision)
