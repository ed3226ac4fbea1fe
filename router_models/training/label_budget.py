"""Which labels a certificate is about to read: their identity, whatever table they stand in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from router_models.data.outcomes import OutcomeTable, split
from router_models.training.candidate import SPLIT_SHARES


def labels_read(table: OutcomeTable, tiers: Sequence[str], seed: int) -> frozenset[str]:
    """16 hex digits for every CERT label of these tiers: a prompt, a tier, its answer and what grade that got.

    Rows and columns that are added to a table change none of them; asking the tiers again makes others, known by their
    texts, token counts and latencies where those are recorded. Raises DataError as `OutcomeTable.only` does.
    """
    cert = split(table.only(*tiers), SPLIT_SHARES, seed)["cert"]
    found: set[str] = set()
    for tier in tiers:
        texts = cert.answers_of(tier).texts
        measured = [cert.grade(tier), *(c[tier] for c in (cert.completion_tokens, cert.latency_s) if tier in c)]
        for group, text, *numbers in zip(cert.groups.tolist(), texts, *measured, strict=True):
            said = "\x1f".join([tier, str(group), text, *(repr(float(number)) for number in numbers)])
            found.add(hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16])
    return frozenset(found)
