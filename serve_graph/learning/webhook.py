"""Post alarms to an address of the operator's: best effort, signed where there is a secret, redirects not followed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from serve_graph.config.graph import GraphConfig
from serve_graph.learning.alarm_table import Alarm

logger = logging.getLogger(__name__)
PAUSES_S = (0.0, 1.0, 5.0, 30.0, 120.0)
"""Before each attempt."""
WEBHOOK_TIMEOUT_S = 10.0


class Webhook:
    """`await webhook(event, alarms)` posts one JSON object; after the last attempt the failure is logged."""

    def __init__(
        self,
        url: str,
        secret: str | None = None,
        *,
        pauses_s: Sequence[float] = PAUSES_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = url
        self.secret = secret
        self.pauses_s = pauses_s
        self.clock = clock

    async def __call__(self, event: str, alarms: Sequence[Alarm]) -> None:
        import httpx

        body = json.dumps({"event": event, "alarms": [alarm.shown() for alarm in alarms]}).encode()
        said = "no attempt"
        async with httpx.AsyncClient(timeout=WEBHOOK_TIMEOUT_S, follow_redirects=False) as client:
            for pause_s in self.pauses_s:
                await asyncio.sleep(pause_s)
                try:
                    reply = await client.post(self.url, content=body, headers=self.headers(body))
                except httpx.HTTPError as error:
                    said = type(error).__name__
                    continue
                if reply.is_success:
                    return
                said = f"status {reply.status_code}"
        logger.error("the webhook at %s did not take %s: %s", urlsplit(self.url).hostname, event, said)

    def headers(self, body: bytes) -> dict[str, Any]:
        """The headers of a post, its signature included."""
        at = str(int(self.clock()))
        named = {"content-type": "application/json", "x-serve-graph-timestamp": at}
        if self.secret is not None:
            signed = hmac.new(self.secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
            named["x-serve-graph-signature"] = f"sha256={signed}"
        return named


def webhook_of(config: GraphConfig) -> Webhook | None:
    """The webhook of a configuration; None where there is none."""
    alarms = config.alarms
    if alarms.webhook is None:
        return None
    secret = None if alarms.webhook_secret is None else alarms.webhook_secret.get_secret_value()
    return Webhook(str(alarms.webhook), secret)
