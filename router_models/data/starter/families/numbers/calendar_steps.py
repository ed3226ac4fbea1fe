"""Days and months: what comes next, what came before, further on around the week or the year."""

import random

from router_models.data.starter.families.base import choice_task, mentions_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}
MONTHS = {
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December"),
    "de": ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
           "November", "Dezember"),
    "es": ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
           "noviembre", "diciembre"),
}  # fmt: skip
_NEXT = {
    "en": ("Which {unit} comes right after {0}? Answer with one word.", "What {unit} follows {0}? One word, please.",
           "Suppose it is {0} at the moment. Once it is over, which {unit} begins? Write only its name."),
    "de": ("Welcher {unit} kommt direkt nach {0}? Antworte mit einem Wort.",
           "Nenne den {unit}, der auf {0} folgt. Nur ein Wort."),
    "es": ("¿Qué {unit} viene justo después de {0}? Responde con una palabra.",
           "Di el nombre del {unit} que sigue a {0}. Solo una palabra."),
}  # fmt: skip
_BEFORE = {
    "en": ("Which {unit} comes right before {0}? Answer with one word.",
           "If the current {unit} is {0}, which {unit} was it just before? Write only its name."),
    "de": ("Welcher {unit} kommt direkt vor {0}? Antworte mit einem Wort.",
           "Nenne den {unit}, der unmittelbar vor {0} liegt. Nur ein Wort."),
    "es": ("¿Qué {unit} viene justo antes de {0}? Responde con una palabra.",
           "Di el nombre del {unit} anterior a {0}. Solo una palabra."),
}  # fmt: skip
_STEPS = {
    "en": ("If the current {unit} is {0}, which {unit} will it be {1} {units} later? Answer with one word.",
           "Start at {0} and go forward {1} {units}. Which {unit} do you reach? Write only its name.",
           "{1} {units} after {0} is which {unit}? One word."),
    "de": ("Es ist gerade {0}. Welcher {unit} ist es {1} {units} später? Antworte mit einem Wort.",
           "Welcher {unit} ist {1} {units} nach {0}? Schreibe nur den Namen."),
    "es": ("Ahora es {0}. ¿Qué {unit} será {1} {units} después? Responde con una palabra.",
           "¿Qué {unit} es {1} {units} después de {0}? Escribe solo el nombre."),
}  # fmt: skip
_UNITS = {
    "en": (("day of the week", "days"), ("month", "months")),
    "de": (("Wochentag", "Tage"), ("Monat", "Monate")),
    "es": (("día de la semana", "días"), ("mes", "meses")),
}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Level 1: the next; 2: the one before or two on; 3 to 5: more and more steps, from 4 on past the end."""
    which = rng.randrange(2)
    names = (DAYS, MONTHS)[which][language]
    unit, units = _UNITS[language][which]
    start = rng.randrange(len(names))
    if difficulty == 1 and language == "en" and rng.random() < 0.55:
        return _in_a_row(rng)
    if difficulty <= 2:
        step = 1 if difficulty == 1 else -1
        wordings = _NEXT if difficulty == 1 else _BEFORE
        prompt = settled(wordings[language], f"{language}{names[start]}{step}").format(names[start], unit=unit)
    else:
        step = {3: 2, 4: rng.randint(3, 4), 5: rng.randint(5, 15)}[difficulty]
        template = settled(_STEPS[language], f"{language}{names[start]}{step}")
        prompt = template.format(names[start], step, unit=unit, units=units)
    return choice_task(prompt, names[(start + step) % len(names)], names, given=[names[start]])


def _in_a_row(rng: random.Random) -> Draft:
    names = rng.choice((DAYS["en"], MONTHS["en"]))
    start, shown = rng.randrange(len(names)), rng.randint(3, 4)
    row = [names[(start + place) % len(names)] for place in range(shown + 1)]
    template = settled(
        ("Continue with one word: {0},", "Which word comes next? {0}, ... Write only that word.",
         "Here is the beginning of a well-known list, and I would like you to give me the one word that comes "
         "after it: {0}, ..."), "".join(row),
    )  # fmt: skip
    return mentions_task(template.format(", ".join(row[:-1])), [row[-1]], max_tokens=16)
