"""An honest key beside one that attacks without end: what it waits for, alone and meanwhile (`make attack-load`).

    python -m tests.attack.load [--seconds 600] [--alone-s 120] [--out docs/results/attack-load.md]

Passes where the honest key's 99th percentile during the attack is at most twice that of the same time alone, and it is
answered without exception. Afterwards, as a control, the same honest load beside a process that burns as much
processor time as the attacking client took, and sends nothing: what that costs on a shared machine, no graph can mend.

The honest key, the attacker and the scripted API have a process each, so that none waits for another's Python.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import multiprocessing
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attack.bodies import body_of, doubled, schema
from tests.attack.honest import CHAT, Honest, Measured, Reach, ask_honestly, passed, report
from tests.attack.target import LONG, attacked

Abuse = tuple[str, str, bytes | None, Mapping[str, str]]
"""Method, path, body and headers of an abusive request."""


def chat(content: str, **fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": content}], **fields}).encode()


def abuses() -> dict[str, Abuse]:
    """What the attacking key sends, by name: all of it can be sent again and again without being made again."""
    part, tool = '{"type": "text", "text": ""}', '{"type": "function", "function": {"name": "f"}}'
    posts: dict[str, bytes] = {
        "10,000 newlines": chat("\n" * 10_000),
        "60,000 empty parts": body_of(f'"messages": [{{"role": "user", "content": [{", ".join([part] * 60_000)}]}}]'),
        "a body of 60 KB in 20,000 objects": body_of(f'"tools": [{",".join(["{}"] * 20_000)}]'),
        "20,000 tools": body_of(f'"tools": [{", ".join([tool] * 20_000)}]'),
        "400,000 stop sequences": body_of(f'"stop": {json.dumps([str(i) for i in range(400_000)])}'),
        "anyOf of 3,000": chat('{"a": -1}', response_format=schema("anyOf", 3000)),
        "2^40 references": chat("{}", response_format=doubled(40)),
        "100,000 brackets": b"[" * 100_000,
        "a million zeros": body_of(f'"x": [{"0," * 1_000_000}0]'),
        "5 MB of text": chat("x" * 5_000_000),
        "1 MB of text, as may be": chat("word " * 200_000),
        "max_tokens of 2^31 − 1": chat("hi", max_tokens=2**31 - 1),
        "n of 100,000": chat("hi", n=100_000),
        "a quality floor of 1": chat("hi", serve_graph={"quality_floor": 1}),
        "the dear tier": chat("hi", model="frontier"),
        "slow calls, more at once than it may": chat("[cheap:slow=1] hi"),
        "long calls to the last tier": chat(f"[upstream:slow=1] {LONG}"),
    }
    found: dict[str, Abuse] = {name: ("POST", CHAT, body, {}) for name, body in posts.items()}
    found["a decompression bomb"] = ("POST", CHAT, gzip.compress(b" " * 64_000_000), {"content-encoding": "gzip"})
    found["an administrator's path"] = ("GET", "//metrics", None, {})
    found["a wrong key"] = ("GET", "/v1/models", None, {"authorization": "Bearer sg-wrong"})
    found["a header of 100 KB"] = ("GET", "/v1/models", None, {"x-long": "y" * 100_000})
    return found


@dataclass
class Attacker:
    """Sends abuse over `callers` connections at a time, as fast as it is answered, until it is told to stop."""

    target: Reach
    callers: int = 12
    seed: int = 1
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> list[threading.Thread]:
        kinds = abuses()
        loops = [*[self._send] * self.callers, self._drip, self._hang_up, self._half_heads]
        threads = [
            threading.Thread(target=loop, args=(kinds, random.Random(self.seed + i)), daemon=True)
            for i, loop in enumerate(loops)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, kinds: Mapping[str, Abuse], random_: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.target.port, timeout=60)
        key = f"Bearer {self.target.secrets['attacker']}"
        while not self.over.is_set():
            name = random_.choice(list(kinds))
            method, path, body, headers = kinds[name]
            try:
                connection.request(method, path, body, {"authorization": key} | dict(headers))
                reply = connection.getresponse()
                reply.read()
                self.answered[name, str(reply.status)] += 1
            except (OSError, http.client.HTTPException):
                self.answered[name, "closed"] += 1
                connection.close()

    def _drip(self, *_: object) -> None:
        """A body that comes byte by byte, again and again."""
        head = self.target.head(
            f"POST {CHAT} HTTP/1.1", f"Authorization: Bearer {self.target.secrets['attacker']}", "Content-Length: 9999"
        )
        while not self.over.is_set():
            with socket.create_connection(("127.0.0.1", self.target.port), timeout=0.2) as caller:
                caller.sendall(head)
                self._until_closed(caller, "a body byte by byte", b" ")

    def _half_heads(self, *_: object) -> None:
        """Connections that are left after half a head."""
        while not self.over.is_set():
            with socket.create_connection(("127.0.0.1", self.target.port), timeout=0.2) as caller:
                caller.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
                self._until_closed(caller, "half a head", b"")

    def _until_closed(self, caller: socket.socket, name: str, drip: bytes) -> None:
        while not self.over.is_set():
            try:
                if drip:
                    caller.sendall(drip)
                came = caller.recv(1 << 12)
            except TimeoutError:
                continue
            except OSError:
                came = b""
            self.answered[name, came[9:12].decode() if came.startswith(b"HTTP") else "closed"] += 1
            return

    def _hang_up(self, *_: object) -> None:
        """Calls that are abandoned a tenth of a second after they were made."""
        body = chat(f"[upstream:slow=20] {LONG}")
        head = self.target.head(
            f"POST {CHAT} HTTP/1.1",
            f"Authorization: Bearer {self.target.secrets['attacker']}",
            f"Content-Length: {len(body)}",
        )
        while not self.over.is_set():
            with socket.create_connection(("127.0.0.1", self.target.port), timeout=5) as caller:
                caller.sendall(head + body)
                time.sleep(0.1)
            self.answered["call and hang up", "gone"] += 1


def attack(reach: Reach, seconds: float) -> tuple[Counter[tuple[str, str]], float]:
    """Attack for so long; returns what was answered, and the seconds of processor time that this process took."""
    began, attacker = time.process_time(), Attacker(reach)
    threads = attacker.run()
    time.sleep(seconds)
    took_s = time.process_time() - began
    attacker.over.set()
    for thread in threads:
        thread.join(70)
    return attacker.answered, took_s


def burn(share: float, seconds: float, slice_s: float = 0.02) -> float:
    """Use this share of a core for so long, in slices, and nothing else; returns the seconds that were used."""
    began, ends = time.process_time(), time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        spins = time.thread_time() + share * slice_s
        while time.thread_time() < spins and time.monotonic() < ends:
            pass
        time.sleep(max(0.0, now + slice_s - time.monotonic()))
    return time.process_time() - began


def measured(seconds: float, alone_s: float, say: Callable[[str], None]) -> Measured:
    """Start a graph, ask alone, beside an attacker, and beside a process that only burns as much processor time."""
    with (
        attacked() as target,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes,
    ):
        reach = Reach(target.graph.port, target.secrets)

        def asked(for_s: float) -> Future[Honest]:
            return processes.submit(ask_honestly, reach, for_s)

        processes.submit(burn, 0.0, 1.0)  # both processes are there
        asked(min(10.0, alone_s)).result()  # and those of the graph are warm before anything is measured
        say(f"alone for {alone_s:g} s")
        alone = asked(alone_s).result()
        say(f"beside an attacker for {seconds:g} s")
        attacking, beside = processes.submit(attack, reach, seconds), asked(seconds)
        answered, took_s = attacking.result()
        found = Measured(alone, beside.result(), answered, attacker_share=took_s / seconds)
        time.sleep(15)  # rests and delays of the attacking key are over
        say(f"beside a process that burns {found.attacker_share:.2f} of a core for {alone_s:g} s")
        burning, control = processes.submit(burn, found.attacker_share, alone_s), asked(alone_s)
        found.control = control.result()
        burning.result()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the attack lasts")
    parser.add_argument("--alone-s", type=float, default=120.0, help="how long the honest key is alone before")
    parser.add_argument("--out", type=Path, help="a file for the page of results")
    given = parser.parse_args()
    found = measured(given.seconds, given.alone_s, lambda text: print(text, file=sys.stderr, flush=True))
    page = report(found, given.seconds, "make attack-load")
    print(page)
    if given.out is not None:
        given.out.write_text(page, encoding="utf-8")
    return 0 if passed(found.alone, found.beside) else 1


if __name__ == "__main__":
    sys.exit(main())
