"""Small stories with a number at the end: one to five steps."""

import random

from router_models.data.starter.families.base import number_task, settled
from router_models.data.starter.families.words.words_data import OBJECTS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_END = {
    "en": ("Answer with only the number.", "Give just the final number.", "Only the number, please."),
    "de": ("Antworte nur mit der Zahl.", "Nur die Zahl, bitte."),
    "es": ("Responde solo con el número.", "Solo el número, por favor."),
}
_WORKED = (
    "Work it out briefly and end with the number.",
    "Think step by step in a line or two, then give the number last.",
)
_ONE = {
    "en": (
        ("{who} has {a} {thing} and gets {b} more. How many {thing} does {who} have now?", "+"),
        ("{who} has {a} {thing} and gives {b} of them away. How many {thing} are left?", "-"),
        ("There are {a} {thing} on the table and {b} in the box. How many {thing} are there together?", "+"),
        ("{b} of the {a} {thing} in the drawer are gone. How many {thing} are still there?", "-"),
    ),
    "de": (
        ("{who} hat {a} Äpfel und bekommt noch {b} dazu. Wie viele Äpfel hat {who} jetzt?", "+"),
        ("{who} hat {a} Bücher und verschenkt {b} davon. Wie viele Bücher bleiben übrig?", "-"),
        ("Auf dem Tisch liegen {a} Karten und in der Kiste {b}. Wie viele Karten sind es zusammen?", "+"),
    ),
    "es": (
        ("{who} tiene {a} manzanas y recibe {b} más. ¿Cuántas manzanas tiene ahora?", "+"),
        ("{who} tiene {a} libros y regala {b}. ¿Cuántos libros le quedan?", "-"),
        ("En la mesa hay {a} cartas y en la caja hay {b}. ¿Cuántas cartas hay en total?", "+"),
    ),
}

_PACKS = {
    "de": "{who} kauft {b} Packungen mit je {c} Eiern und hat schon {a} Eier zu Hause. Wie viele Eier hat {who} "
    "insgesamt?",
    "es": "{who} compra {b} cajas de {c} huevos y ya tiene {a} huevos en casa. ¿Cuántos huevos tiene en total?",
}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a story with as many steps as the level (two at most in German and Spanish); 3 to 5 may leave room "
    "for working."""
    if difficulty == 1 or language != "en":
        if difficulty >= 3:
            return _packs(rng, language)
        return _one_step(rng, language, 9 if difficulty == 1 else 24)
    story, value = {2: _two, 3: _three, 4: _four, 5: _five}[difficulty](rng)
    working = difficulty >= 4 or (difficulty == 3 and rng.random() < 0.5)
    ends = _WORKED if working else _END["en"]
    return number_task(f"{story} {settled(ends, story)}", value, max_tokens=128 if working else 24)


def _one_step(rng: random.Random, language: str, most: int) -> Draft:
    story, sign = rng.choice(_ONE[language])
    a, b = rng.randint(3, most), rng.randint(2, most)
    if sign == "-":
        a, b = max(a, b) + 1, min(a, b)
    story = story.format(who=rng.choice(PEOPLE), a=a, b=b, thing=rng.choice(OBJECTS))
    return number_task(f"{story} {settled(_END[language], story)}", a + b if sign == "+" else a - b)


def _packs(rng: random.Random, language: str) -> Draft:
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.choice((4, 6, 10, 12))
    story = _PACKS[language].format(who=rng.choice(PEOPLE), a=a, b=b, c=c)
    return number_task(f"{story} {settled(_END[language], story)}", a + b * c)


def _two(rng: random.Random) -> tuple[str, int]:
    who, thing = rng.choice(PEOPLE), rng.choice(OBJECTS)
    a, b, c = rng.randint(8, 25), rng.randint(2, 7), rng.randint(2, 12)
    if rng.random() < 0.5:
        return (
            f"{who} has {a} {thing}, loses {b} and then buys {c}. How many {thing} does {who} have now?",
            a - b + c,
        )
    return f"One pack holds {b} {thing}. {who} buys {c} packs. How many {thing} is that?", b * c


def _three(rng: random.Random) -> tuple[str, int]:
    who, thing = rng.choice(PEOPLE), rng.choice(OBJECTS)
    packs, each, extra = rng.randint(2, 9), rng.randint(3, 12), rng.randint(2, 9)
    if rng.random() < 0.5:
        text = (
            f"{who} buys {packs} packs of {each} {thing} and already owns {extra}. How many {thing} does {who} "
            f"have in all?"
        )
        return text, packs * each + extra
    text = (
        f"{who} buys {packs} bags with {each} {thing} each, but {extra - 1} turn out to be broken. How many are fine?"
    )
    return (text, packs * each - extra + 1) if extra > 2 else (text.replace("1 turn", "1 turns"), packs * each - 1)


def _four(rng: random.Random) -> tuple[str, int]:
    who = rng.choice(PEOPLE)
    if rng.random() < 0.5:
        price, count, discount = rng.randint(4, 15), rng.randint(3, 8), rng.randint(2, 9)
        paid = (price * count - discount) // 10 * 10 + 20
        text = (
            f"{who} buys {count} tickets at {price} dollars each, gets {discount} dollars off the total "
            f"and pays with {paid} dollars. How many dollars of change does {who} get?"
        )
        return text, paid - (price * count - discount)
    days, pages, weekend = rng.randint(4, 6), rng.randint(8, 20), rng.randint(25, 40)
    total = days * pages + 2 * weekend + rng.randint(5, 60)
    text = (
        f"A book has {total} pages. {who} reads {pages} pages on each of {days} days and then {weekend} pages "
        "on Saturday and the same on Sunday. How many pages are left?"
    )
    return text, total - days * pages - 2 * weekend


def _five(rng: random.Random) -> tuple[str, int]:
    who, other = rng.sample(PEOPLE, 2)
    base, more, times = rng.randint(5, 15), rng.randint(3, 9), rng.randint(2, 3)
    given = rng.randint(2, base - 1)
    text = (
        f"{who} has {base} stamps. {other} has {more} more than {who}. A third collector has {times} times as many "
        f"as {other} and gives {given} of them to {who}. How many stamps do all three have together?"
    )
    return text, base + (base + more) + times * (base + more)
