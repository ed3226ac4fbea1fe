"""Take feedback on decisions: whose decision it is, what is kept of it, and that none is lost.

A key may speak of its own decisions only, and is told of another's what it is told of none: there is no such decision.
While the store cannot be asked, all feedback is taken, and counts once the store says whose decision it is
(`records.feedback.counted`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from router_models.types import DecisionRecord
from serve_graph.access.caller import Caller
from serve_graph.errors import AccessError, NotFoundError, StoreUnavailableError
from serve_graph.records.feedback import Feedback

logger = logging.getLogger(__name__)
LOOKS_S = (0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 1.5)
"""Pauses before each look for a decision: its record is there within a second of its reply, on a busy machine five."""
STORE_WITHIN_S = 2.0
_ID = re.compile(r"(?:dec-|chatcmpl-|cmpl-|resp_|msg_)([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class GivenFeedback:
    """What a caller says, validated: see `records.feedback.Feedback`. `text` is as it was sent."""

    decision: str
    kind: str
    source: str
    value: float | None = None
    text: str | None = None
    last_tier_right: bool | None = None
    labeller: str | None = None
    idempotency_key: str | None = None


class FeedbackIntake:
    """Take feedback and hand it to the spool.

    Parameters
    ----------
    find : callable
        A decision by its id, None where there is none; raises StoreUnavailableError.
    write : callable
        Keep feedback, so that it survives this process: the spool's.
    keep_text : callable, optional
        What is kept of a text, redacted; None: nothing.
    noted : callable, optional
        Called with the kind of everything taken, to be counted.
    labelled : callable, optional
        Called once a label is kept, before the reply: what it shows may revoke the certificate.
    said : callable, optional
        The feedback on some decisions that counts.
    looks_s : sequence of float
        Seconds to wait before each look for a decision that is not there yet.
    store_within_s : float
        Seconds after which a store that does not answer is taken to be away.
    """

    def __init__(
        self,
        find: Callable[[str], Awaitable[DecisionRecord | None]],
        write: Callable[[Feedback], None],
        keep_text: Callable[[str], str | None] | None = None,
        noted: Callable[[str], None] = lambda _: None,
        *,
        labelled: Callable[[], Awaitable[None]] | None = None,
        said: Callable[[Iterable[str]], Awaitable[Mapping[str, Sequence[Feedback]]]] | None = None,
        looks_s: Sequence[float] = LOOKS_S,
        store_within_s: float = STORE_WITHIN_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.find = find
        self.write = write
        self.keep_text = keep_text
        self.noted = noted
        self.labelled = labelled
        self.said = said
        self.looks_s = looks_s
        self.store_within_s = store_within_s
        self.now = now

    async def take(self, given: GivenFeedback, caller: Caller) -> Feedback:
        """Keep what a caller says of a decision.

        Raises
        ------
        AccessError
            For a key that may neither ask nor administrate, and for labels without the scope `admin`.
        NotFoundError
            Where there is no such decision, or it is another key's.
        """
        if not (caller.may("use") or caller.may("admin")):
            raise AccessError("feedback needs a key with the scope 'use'", code="insufficient_permissions")
        if given.kind == "label":
            caller.require("admin", "labelling")
        decision = decision_id(given.decision)
        await self._check_own(decision, caller)
        at = self.now().isoformat(timespec="milliseconds")
        asked_as = given.idempotency_key
        feedback = Feedback(
            decision,
            given.kind,
            given.source,
            at,
            given.value,
            None if given.text is None or self.keep_text is None else self.keep_text(given.text),
            given.last_tier_right,
            caller.name,
            given.labeller,
            caller.may("admin"),
            at,
            () if asked_as is None else (hashlib.sha256(asked_as.encode()).hexdigest()[:16],),
        )
        self.write(feedback)
        self.noted(feedback.kind)
        if feedback.kind == "label" and self.labelled is not None:
            await self.labelled()
        return feedback

    async def said_of(self, decision: str) -> Sequence[Feedback]:
        """The feedback on a decision that counts; raises StoreUnavailableError."""
        return () if self.said is None else (await self.said([decision])).get(decision, ())

    async def _check_own(self, decision: str, caller: Caller) -> None:
        """Raise NotFoundError for a decision that the caller may not speak of, however long it is looked for."""
        try:
            for pause_s in self.looks_s:
                await asyncio.sleep(pause_s)
                record = await asyncio.wait_for(self.find(decision), self.store_within_s)
                if record is not None and (caller.may("admin") or record.key == caller.name):
                    return
        except (StoreUnavailableError, TimeoutError) as error:
            logger.warning(
                "feedback on %s is taken unchecked, the store does not say whose it is: %s", decision, error
            )
            return
        raise NotFoundError(f"no decision {decision!r} that this key may speak of", "decision")


def decision_id(given: str) -> str:
    """The decision that an id names: its own, or that of a reply, as `chatcmpl-…`, `cmpl-…`, `resp_…`, `msg_…`."""
    found = _ID.fullmatch(given)
    return given if found is None else f"dec-{found[1]}"
