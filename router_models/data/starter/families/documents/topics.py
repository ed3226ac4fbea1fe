"""Which topic is a text about? Harder texts use the words of one topic to talk about another."""

import random
from collections.abc import Mapping

from router_models.data.starter.families.base import choice_task, settled
from router_models.data.starter.families.words.words_data import CITIES, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_EN = {
    "sports": ("The team from {city} won the football match {n} to 1.",
               "{who} ran the marathon in {city} and broke the club record.",
               "The coach of the basketball team praised {who} after the game.",
               "The tennis final in {city} lasted {n} sets.",
               "{who} scored twice before half time."),
    "food": ("Boil the pasta for {n} minutes and add butter and cheese.",
             "{who} bakes bread with olives and fresh herbs.",
             "The new restaurant in {city} serves soup, salad and grilled fish.",
             "Mix flour, {n} eggs and milk to make the pancakes.",
             "{who} prefers tomatoes with basil and a little salt."),
    "weather": ("Heavy rain and strong wind are expected in {city} tomorrow.",
                "It will be sunny with {n} degrees at noon.",
                "Snow fell all night and the roads around {city} are white.",
                "The storm near {city} will pass by the evening.",
                "Fog in the morning, clear skies later in {city}."),
    "music": ("The orchestra in {city} played a symphony for {n} violins.",
              "{who} sings in a choir and plays the guitar.",
              "The band released a new album with {n} songs.", "The pianist {who} gave a concert in {city}.",
              "{who} is learning to play the drums."),
    "travel": ("We booked a flight to {city} and a hotel for {n} nights.",
               "{who} packed a suitcase and took the train to {city}.",
               "The tourists visited the museum and the old town of {city}.",
               "Passports are checked at the airport of {city}.",
               "{who} spent the holiday hiking and saw {n} villages."),
    "money": ("The bank in {city} raised its interest rate by {n} percent.",
              "{who} pays {n} dollars of tax on the savings account.",
              "The stock price fell after the company in {city} reported a loss.",
              "{who} took out a loan to buy shares.",
              "Investors in {city} sold their bonds."),
    "health": ("The doctor in {city} told {who} to take the medicine for {n} days.",
               "{who} has a fever and a sore throat.",
               "The hospital in {city} opened a ward for heart patients.",
               "The nurse gave {who} a vaccine against the flu.",
               "Washing your hands prevents infections, said the clinic in {city}."),
    "technology": ("The new laptop has {n} gigabytes of memory.",
                   "{who} updated the software and restarted the server.",
                   "A start-up in {city} builds robots with cameras.",
                   "The phone's battery lasts {n} hours, says {who}.",
                   "{who} wrote a computer program that sorts e-mail."),
}  # fmt: skip
_MIXED = (
    (
        "food",
        "sports",
        "{who}, a retired goalkeeper, now stirs a pot of bean stew in {city} and says it needs {n} hours.",
    ),
    (
        "sports",
        "food",
        "After a breakfast of porridge, {who} rowed to victory in {city} by {n} boat lengths.",
    ),
    ("money", "sports", "The football club in {city} owes its banks {n} million and has sold its shares."),
    (
        "sports",
        "money",
        "Nobody paid {who} a cent, and still the amateur swam the final in {city} in {n} minutes.",
    ),
    ("health", "music", "The violinist {who} in {city} was treated for tendon pain for {n} weeks."),
    ("music", "health", "In the hospital chapel of {city}, {who} played {n} pieces for solo cello."),
    ("technology", "food", "The oven in {who}'s bakery in {city} runs on software with {n} sensors."),
    ("travel", "weather", "Rain or shine, {who} takes the ferry to {city} and stays for {n} nights."),
    ("money", "health", "The clinic in {city} borrowed {n} million at a low rate of interest."),
    ("technology", "music", "{who} wrote an app in {city} that tunes guitars with {n} lines of code."),
    (
        "travel",
        "food",
        "With a sandwich in one pocket and a map in the other, {who} crossed {city} on day {n} of the trip.",
    ),
)
_DE = {
    "Sport": (
        "Die Mannschaft aus {city} gewann das Fußballspiel mit {n} zu 1.",
        "{who} lief in {city} einen Marathon.",
    ),
    "Essen": ("Die Nudeln {n} Minuten kochen und mit Käse servieren.", "{who} backt gerne Brot und Kuchen."),
    "Wetter": ("Morgen regnet es in {city} bei {n} Grad.", "In {city} schneit es seit gestern Abend."),
    "Musik": ("{who} spielt Klavier und singt im Chor.", "Das Orchester gab {n} Konzerte in {city}."),
    "Gesundheit": ("Der Arzt verschrieb {who} {n} Tabletten am Tag.", "{who} hat Fieber und Halsschmerzen."),
    "Technik": (
        "Der neue Computer hat {n} Gigabyte Speicher.",
        "{who} installiert die neue Software auf dem Server.",
    ),
}
_ES = {
    "deporte": (
        "El equipo de {city} ganó el partido de fútbol por {n} a 1.",
        "{who} corrió un maratón en {city}.",
    ),
    "comida": (
        "Hierve la pasta {n} minutos y añade queso.",
        "{who} prepara una sopa de verduras y pan casero.",
    ),
    "tiempo atmosférico": (
        "Mañana lloverá en {city} con {n} grados.",
        "En {city} nieva desde ayer por la noche.",
    ),
    "música": ("{who} toca el piano y canta en un coro.", "La orquesta dio {n} conciertos en {city}."),
    "salud": ("El médico recetó a {who} {n} pastillas al día.", "{who} tiene fiebre y dolor de garganta."),
    "tecnología": (
        "El nuevo ordenador tiene {n} gigas de memoria.",
        "{who} instala el nuevo programa en el servidor.",
    ),
}
_POOLS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"en": _EN, "de": _DE, "es": _ES}
_ASK = {
    "en": (
        "Which topic is this text about: {0}? Answer with only the topic.\n\n{1}",
        "Text: {1}\nTopic ({0}):",
        'Classify the text as {0}. Reply with one word. "{1}"',
        "Our editors file every incoming message under exactly one heading. The headings are {0}. Which heading "
        "fits the "
        "message below? Give the heading alone.\n\n{1}",
    ),
    "de": ("Um welches Thema geht es: {0}? Antworte nur mit dem Thema.\n\n{1}", "Text: {1}\nThema ({0}):"),
    "es": ("¿De qué tema trata el texto: {0}? Responde solo con el tema.\n\n{1}", "Texto: {1}\nTema ({0}):"),
}
_OR = {"en": " or ", "de": " oder ", "es": " o "}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1 to 3: one or two plain sentences, 2 to 5 topics to choose from; 4 and 5: borrowed words in between."""
    pool = _POOLS[language]
    if difficulty >= 4 and language == "en":
        topic, lure, text = rng.choice(_MIXED)
        texts, options = [text], [topic, lure]
    else:
        topic = rng.choice(sorted(pool))
        texts, options = rng.sample(pool[topic], rng.choice((1, 1, 2))), [topic]
    others = sorted(set(pool) - set(options))
    options += rng.sample(others, min(difficulty + 1, 5) - len(options))
    rng.shuffle(options)
    values = {"who": rng.choice(PEOPLE), "city": rng.choice(CITIES), "n": rng.randint(3, 9)}
    text = " ".join(texts).format(**values)
    joined = ", ".join(options[:-1]) + _OR[language] + options[-1]
    return choice_task(settled(_ASK[language], text).format(joined, text), topic, options)
