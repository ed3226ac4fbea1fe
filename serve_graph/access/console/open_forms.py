"""Forms that anybody may send, without a key: few are received at a time, so they take no places from requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_graph.errors import RateLimitedError

MOST_AT_ONCE = 16
OPEN_FORM_WITHIN_S = 2.0


class OpenForms:
    """The forms without a key that are being received.

    One more than MOST_AT_ONCE takes the place of the one that is awaited longest: a browser sends its form at once, so
    that whoever sends slow ones keeps nobody from signing in either.
    """

    def __init__(self, within_s: float = OPEN_FORM_WITHIN_S) -> None:
        self.within_s = within_s
        self._awaited: deque[asyncio.Timeout] = deque()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[float]:
        """Hold a place while a form is received; gives the seconds for it.

        Raises RateLimitedError as soon as another form has taken the place.
        """
        try:
            async with asyncio.timeout(None) as place:
                if len(self._awaited) >= MOST_AT_ONCE:
                    self._awaited.popleft().reschedule(asyncio.get_running_loop().time())
                self._awaited.append(place)
                try:
                    yield self.within_s
                finally:
                    if place in self._awaited:
                        self._awaited.remove(place)
        except TimeoutError:
            raise RateLimitedError("too many forms are being sent", 1.0, "requests") from None
