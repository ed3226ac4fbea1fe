"""Router and verifier as Ray Serve deployments: each builds a RouterVersion and forwards."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from router_models.errors import ArtifactError
from router_models.types import Action, Completion, Decision, Query, Verdict
from router_models.versions.router_version import RouterVersion
from serve_graph.cluster.long_work import LongWork
from serve_graph.config.graph import WhenUncovered
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.validity import CertificateStatus, Clock, Validity, utc_now

QUICK_CHARS = 1_024
"""Characters up to which a text is read on the event loop: one window of the encoder. A thread would cost it more."""
MOST_CHARS = 131_072
"""Characters beyond which no text is read, unless longer ones were certified: patterns hold the interpreter's lock."""
LONG_TO_CHECK = frozenset({"tools", "response_format"})
"""Parameters with a schema, whose check may take long however short the texts are."""
_content = attrgetter("content")


class PolicyDeployment:
    """A loaded RouterVersion, asked for decisions or verdicts. One class, two deployments.

    Once its certificate has ended it decides on the last tier only; the ingress, which checks too, does not ask then.
    So it does on prompts that lie farther from the training data than was certified, unless `uncovered` is `route`.

    What may take long is done in a few threads and given up after `limit_s`: then, and for texts that are too long to
    be read at all, the last tier answers, a cheap answer is escalated, and nothing is promised. Others do not wait.
    `digest` is the `loaded_digest` of the version which the graph was started with.
    """

    def __init__(
        self,
        folder: str,
        validity: Validity | None = None,
        uncovered: WhenUncovered = "last_tier",
        limit_s: float = 1.5,
        digest: str | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        version = RouterVersion.load(Path(folder))
        if digest is not None and digest != version.loaded_digest:
            raise ArtifactError(f"{folder} or the encoder is another than the one whose certificate was checked")
        self.version = replace(version, novel_to_top=uncovered == "last_tier")
        self.certificate_status = CertificateStatus(validity, self.version.name, clock or utc_now)
        self.long_work = LongWork(limit_s)
        self.most_chars = max(MOST_CHARS, self.version.longest_prompt or 0)
        self._warm_up()

    def _warm_up(self) -> None:
        """Load the encoder and the models' libraries before the first request pays for them."""
        query = Query.from_prompt("warm-up")
        decision = self.version.decide(query)
        completion = Completion("warm-up", token_logprobs=(-0.1, -0.2))
        for tier in self.version.stages:
            self.version.estimate(query, completion, Decision(tier, "warm-up", decision.p_cheap_ok))

    def check_health(self) -> None:
        """Fail where threads are stuck: Ray Serve replaces a replica whose check fails several times on end."""
        if (fault := self.long_work.fault()) is not None:
            raise PolicyUnavailableError(fault)

    async def decide(self, query: Query) -> Decision:
        if fault := self.certificate_status.fault():
            return Decision(self.version.policy.top, fault)
        size = sum(map(len, map(_content, query.messages)))
        if size <= QUICK_CHARS:
            return self.version.decide(query)
        try:
            self._check_size(size)
            return await self.long_work.run(partial(self.version.decide, query))
        except PolicyUnavailableError as error:
            top = self.version.policy.top
            return Decision(top, f"not routed: {error}: {top}", promised=False)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        fault = self.certificate_status.fault()
        if fault and decision.tier != self.version.policy.top:
            return Verdict(Action.ESCALATED, fault)
        size = len(completion.text) + sum(map(len, map(_content, query.messages)))
        if size <= QUICK_CHARS and LONG_TO_CHECK.isdisjoint(query.parameters):
            return self.version.judge(query, completion, decision)
        try:
            self._check_size(size)
            return await self.long_work.run(partial(self.version.judge, query, completion, decision))
        except PolicyUnavailableError as error:
            if decision.tier == self.version.policy.top:
                return self.version.policy.judge_unmeasured(decision.tier, str(error))
            return Verdict(Action.ESCALATED, f"not judged: {error}", promised=False)

    def _check_size(self, size: int) -> None:
        if size > self.most_chars:
            raise PolicyUnavailableError(f"{size} characters are more than are read ({self.most_chars})")
