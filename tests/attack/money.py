"""Requests that cost more than their key may spend, or that nobody is charged for."""

from __future__ import annotations

import json
import socket
import time
from decimal import Decimal

from tests.attack.attack import Attack, at_once, attack, refused
from tests.attack.target import LONG, Target

MONEY: list[Attack] = []
MOST = 2**31 - 1


@attack("answers without end", "max_tokens of 2^31 − 1 under its four names, on a key with at most 256", "400", MONEY)
def longest(at: Target) -> tuple[str, bool]:
    answers = [at.chat(max_tokens=MOST), at.chat(max_completion_tokens=MOST), at.chat(max_tokens=257)]
    answers.append(at.ask("POST", "/v1/responses", json={"model": "auto", "input": "hi", "max_output_tokens": MOST}))
    answers.append(at.ask("POST", "/v1/completions", json={"model": "auto", "prompt": "hi", "max_tokens": MOST}))
    answers.append(at.chat(path="/v1/messages", max_tokens=MOST))
    return refused(answers, 400)


@attack("choices without end", "n of 100,000 and of 3, on a key with at most 2; best_of", "400", MONEY)
def choices(at: Target) -> tuple[str, bool]:
    completion = {"model": "auto", "prompt": "hi"}
    answers = [
        at.chat(n=100_000),
        at.chat(n=3),
        at.chat(n=-1),
        at.ask("POST", "/v1/completions", json=completion | {"best_of": 20}),
    ]
    return refused(answers, 400)


@attack(
    "a quality floor that only the last tier keeps",
    "quality_floor of 1, as option and as metadata, on a key with at most 0.9",
    "403",
    MONEY,
)
def floor(at: Target) -> tuple[str, bool]:
    answers = [at.chat(serve_graph={"quality_floor": 1}), at.chat(metadata={"serve_graph.quality_floor": "1"})]
    answers.append(
        at.ask("POST", "/v1/responses", json={"model": "auto", "input": "hi", "serve_graph": {"quality_floor": 1.0}})
    )
    return refused(answers, 403)


@attack(
    "the dear tier, chosen without the right",
    "as model, alias, header, in Azure's and the engines' path, for embeddings",
    "403",
    MONEY,
)
def forced(at: Target) -> tuple[str, bool]:
    answers = [
        at.chat(model="frontier"),
        at.chat(model="openai/frontier"),
        at.chat(headers={"x-serve-graph-tier": "frontier"}),
    ]
    answers += [
        at.chat(path=f"/{way}/frontier/chat/completions")
        for way in ("openai/deployments", "v1/engines", "openai/v1/deployments")
    ]
    return refused(answers, 403)


@attack(
    "more at once than a key may",
    "24 slow requests at once on a key with 4",
    "at most 4 answered, 429 for the others",
    MONEY,
)
def flood(at: Target) -> tuple[str, bool]:
    answers = at_once(lambda _: at.chat("[cheap:slow=6] hi", "flooding"), range(24))
    told, ok = refused(answers, 200, 429)
    waits = all("retry-after" in answer.headers for answer in answers if answer.status == 429)
    return told, ok and waits and 1 <= sum(answer.status == 200 for answer in answers) <= 4


@attack(
    "more a minute than a key may",
    "15 requests on a key with 5 a minute",
    "at most 6 answered, 429 for the others",
    MONEY,
)
def hurry(at: Target) -> tuple[str, bool]:
    answers = [at.chat("hi", "hurried") for _ in range(15)]
    told, ok = refused(answers, 200, 429)
    return told, ok and 1 <= sum(answer.status == 200 for answer in answers) <= 6


@attack(
    "many requests before the first is charged",
    "40 at once to the dear tier on a key with $0.02 a day",
    "bills within the budget, 429 insufficient_quota",
    MONEY,
)
def many_before(at: Target) -> tuple[str, bool]:
    answers = at_once(lambda _: at.chat(f"[upstream:slow=1] {LONG}", "poor"), range(40))
    told, ok = refused(answers, 200, 429)
    bill = sum((Decimal(answer.headers.get("x-serve-graph-cost-usd", "0")) for answer in answers), Decimal(0))
    quota = any(answer.code == "insufficient_quota" for answer in answers)
    return f"{told}, ${bill:.4f}", ok and quota and bill <= Decimal("0.02")


@attack(
    "call and hang up, so that nothing is counted",
    "up to 40 abandoned calls to a hosted API on a key with $0.02 a day",
    "429 insufficient_quota in the end",
    MONEY,
)
def abandoned(at: Target) -> tuple[str, bool]:
    content = {
        "model": "auto",
        "messages": [{"role": "user", "content": f"[upstream:slow=20] {LONG}"}],
        "max_tokens": 100,
    }
    body = json.dumps(content).encode()
    head = at.head(
        "POST /v1/chat/completions HTTP/1.1",
        f"Authorization: Bearer {at.secrets['leaving']}",
        f"Content-Length: {len(body)}",
    )
    for hung_up in range(40):
        seen = at.api.state()["seen"]
        with socket.create_connection(("127.0.0.1", at.graph.port), timeout=10) as caller:
            caller.sendall(head)
            time.sleep(0.05)
            caller.sendall(body)
            caller.settimeout(0.05)
            for _ in range(100):
                if at.api.state()["seen"] > seen:
                    break
                try:
                    if came := caller.recv(1 << 12):  # refused at the door
                        return f"{came[9:12].decode()} after {hung_up} calls", b"insufficient_quota" in came
                except TimeoutError:
                    continue
        time.sleep(1.0 if hung_up % 4 == 3 else 0.1)  # longer than the store's sums take to be read anew
    return "answered 40 times", False
