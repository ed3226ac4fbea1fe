"""Write synthetic invoices and what is asked about them: three layouts, English and German, from a seed.

    python write_invoices.py FOLDER --tasks 400 --documents 1000

writes tasks.jsonl (what `collect` asks and grades), documents.jsonl (other invoices, which `batch run` answers; a
tenth of them with the truth), system.txt and response_format.json (what both ask with). Nothing in them is real.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SYSTEM = "Extract the invoice as JSON. Dates are YYYY-MM-DD. The total is what has to be paid, as a number."
FIELDS = {
    "number": {"type": "string", "maxLength": 24},
    "date": {"type": "string", "maxLength": 10},
    "seller": {"type": "string", "maxLength": 48},
    "currency": {"type": "string", "enum": ["EUR", "USD", "GBP", "CHF"]},
    "total": {"type": "number"},
}
SCHEMA = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "invoice", "schema": SCHEMA}}
MAX_TOKENS = 96
LAYOUTS, LANGUAGES = ("receipt", "table", "letter"), ("en", "de")
DIFFICULTY = {"receipt": 1, "table": 3, "letter": 5}
NAMES = (
    "Aldermann Birke Corvin Delmar Eschbach Falkner Granit Hollis Ivory Juno Kestrel Lindner Morrow Nordlicht".split()
)
KINDS = {"en": ("Ltd", "& Sons", "Supplies Inc"), "de": ("GmbH", "& Söhne KG", "Handels AG")}
GOODS = {
    "en": ("printer paper", "desk lamp", "garden hose", "coffee beans", "bicycle bell", "paint brush", "steel shelf"),
    "de": ("Druckerpapier", "Schreibtischlampe", "Gartenschlauch", "Kaffeebohnen", "Fahrradklingel", "Farbpinsel"),
}
MONTHS = {
    "en": "January February March April May June July August September October November December".split(),
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split(),
}


def amount(cents: int, language: str) -> str:
    """An amount as the language writes it: 1,234.50 or 1.234,50."""
    text = f"{cents / 100:,.2f}"
    return text if language == "en" else text.translate(str.maketrans(",.", ".,"))


def day(year: int, month: int, date: int, language: str, in_words: bool) -> str:
    """A day as the language writes it, with its month's name or without."""
    if in_words:
        name = MONTHS[language][month - 1]
        return f"{name} {date}, {year}" if language == "en" else f"{date}. {name} {year}"
    return f"{date:02}/{month:02}/{year}" if language == "en" else f"{date:02}.{month:02}.{year}"


def invoice(draw: random.Random, layout: str, language: str) -> tuple[str, dict[str, Any]]:
    """One invoice: its text, and the truth. Receipts state the fields; tables and letters name others beside them."""
    seller = f"{draw.choice(NAMES)} {draw.choice(KINDS[language])}"
    buyer = f"{draw.choice(NAMES)} {draw.choice(KINDS[language])}"
    year, month, date = draw.randint(2023, 2026), draw.randint(1, 12), draw.randint(13, 28)
    number = f"{draw.choice('ABRX')}{draw.randint(10, 99)}-{draw.randint(1000, 9999)}"
    currency = draw.choice(("USD", "GBP") if language == "en" else ("EUR", "CHF"))
    lines = [
        (goods, count := draw.randint(1, 9), count * draw.randint(250, 9900))
        for goods in draw.sample(GOODS[language], {"receipt": 1, "table": 3, "letter": 2}[layout])
    ]
    net = sum(cents for _, _, cents in lines)
    tax = round(net * 0.19)
    truth = {
        "number": number, "date": f"{year}-{month:02}-{date:02}", "seller": seller, "currency": currency,
        "total": (net + tax) / 100,
    }  # fmt: skip
    said = {
        "seller": seller, "buyer": buyer, "number": number, "currency": currency,
        "date": day(year, month, date, language, layout == "letter"),
        "due": day(year + month // 12, month % 12 + 1, 10 + date % 3, language, layout == "letter"),
        "order": f"{draw.randint(100000, 999999)}", "net": amount(net, language), "tax": amount(tax, language),
        "total": amount(net + tax, language),
    }  # fmt: skip
    rows = [f"{count} x {goods}   {amount(cents, language)}" for goods, count, cents in lines]
    return TEXTS[layout, language].format(
        **said, rows="\n".join(rows), goods=" / ".join(g for g, _, _ in lines)
    ), truth


TEXTS = {
    ("receipt", "en"): "{seller}\nInvoice no.: {number}\nDate: {date} (day/month/year)\n{rows} net\n"
    "Total: {total} {currency}",
    ("receipt", "de"): "{seller}\nRechnung Nr.: {number}\nDatum: {date}\n{rows} netto\n"
    "Gesamtbetrag: {total} {currency}",
    ("table", "en"): "{seller}                INVOICE\nBill to: {buyer}\nOrder {order}   Invoice {number}\n"
    "Issued {date}   Due {due}   (day/month/year)\n----\n{rows}\n----\nNet {net}\nVAT 19% {tax}\n"
    "Amount due {currency} {total}",
    ("table", "de"): "{seller}                RECHNUNG\nKunde: {buyer}\nAuftrag {order}   Rechnung {number}\n"
    "Ausgestellt {date}   Fällig {due}\n----\n{rows}\n----\nNetto {net}\nMwSt. 19 % {tax}\n"
    "Zu zahlen {total} {currency}",
    ("letter", "en"): "Dear {buyer},\n\nthank you for order {order} ({goods}). With this letter of {date} we invoice, "
    "under {number}, {net} {currency} plus {tax} tax. Please pay {total} {currency} by {due}.\n\nYours, {seller}",
    ("letter", "de"): "Sehr geehrte Damen und Herren von {buyer},\n\nzu Ihrem Auftrag {order} ({goods}) berechnen wir "
    "mit diesem Schreiben vom {date} unter {number} {net} {currency} zuzüglich {tax} Steuer. Bitte zahlen Sie "
    "{total} {currency} bis {due}.\n\nIhre {seller}",
}  # fmt: skip


def invoices(count: int, seed: int) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """So many different invoices, of every layout and language by turns: layout, language, text, truth."""
    draw, seen = random.Random(seed), set()
    while len(seen) < count:
        layout, language = LAYOUTS[len(seen) % 3], LANGUAGES[len(seen) // 3 % 2]
        text, truth = invoice(draw, layout, language)
        if text not in seen:
            seen.add(text)
            yield layout, language, text, truth


def task(number: int, layout: str, language: str, text: str, truth: dict[str, Any]) -> dict[str, Any]:
    """An invoice as a line for `collect`: the request, and the grader that marks its answer."""
    return {
        "id": f"invoice-{number}",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
        "response_format": RESPONSE_FORMAT,
        "max_tokens": MAX_TOKENS,
        "family": layout,
        "difficulty": DIFFICULTY[layout],
        "language": language,
        "grader": "fields",
        "reference": {"fields": truth},
        "solution": json.dumps(truth, ensure_ascii=False),
    }


def write(folder: Path, tasks: int, documents: int, seed: int = 0, with_truth: int = 10) -> None:
    """Write the four files; every `with_truth`-th document says by which grader its answer is marked."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(invoices(tasks + documents, seed))
    (folder / "system.txt").write_text(SYSTEM + "\n", encoding="utf-8")
    (folder / "response_format.json").write_text(json.dumps(RESPONSE_FORMAT, indent=1) + "\n", encoding="utf-8")
    lines = [json.dumps(task(i, *one), ensure_ascii=False) for i, one in enumerate(every[:tasks])]
    (folder / "tasks.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with (folder / "documents.jsonl").open("w", encoding="utf-8") as file:
        for i, (_, language, text, truth) in enumerate(every[tasks:]):
            row: dict[str, Any] = {"id": f"document-{i}", "language": language, "document": text}
            if i % with_truth == 0:
                row |= {"grader": "fields", "reference": {"fields": truth}}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.tasks, given.documents, given.seed)
