"""What MLflow posts to a running graph where something changed in the registry: signed, and no more than a nudge.

Nothing of an event is believed: it has the graph look at the registry now, instead of within `policy.follow_s`. So a
replayed or a foreign one that is signed changes nothing but when it looks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping

from serve_graph.errors import AuthenticationError

MOST_EVENT_BYTES = 65_536
FRESH_S = 300.0
"""How old an event's signature may be."""
SIGNATURE, TIMESTAMP, DELIVERY = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"


class RegistryEvents:
    """Check an event's signature, as MLflow makes it, and say that the registry has changed.

    Parameters
    ----------
    secret : str
        What the webhook was made with.
    changed : callable
        Called where an event was signed with it.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self, secret: str, changed: Callable[[], Awaitable[None]], clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret.encode()
        self.changed = changed
        self.clock = clock

    async def take(self, headers: Mapping[str, str], body: bytes) -> None:
        """Take one event; raises AuthenticationError where its signature is missing, wrong or old."""
        given, moment, delivery = (headers.get(name, "") for name in (SIGNATURE, TIMESTAMP, DELIVERY))
        signed = f"{delivery}.{moment}.".encode("utf-8", "surrogatepass") + body
        made = base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(f"v1,{made}".encode(), given.encode("utf-8", "surrogatepass")):
            raise AuthenticationError("the event is not signed with this graph's secret", code="invalid_signature")
        if not moment.isascii() or not moment.isdigit() or abs(self.clock() - int(moment[:12])) > FRESH_S:
            raise AuthenticationError("the event's signature is too old", code="invalid_signature")
        await self.changed()
