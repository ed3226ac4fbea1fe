"""Capitals, the countries they belong to, and continents."""

import random

from router_models.data.starter.families.base import choice_task, mentions_task, settled
from router_models.data.starter.families.knowledge.geography_data import COUNTRIES, Country
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_CAPITAL = {
    "en": (
        "What is the capital of {0}? Answer with only the name of the city.",
        "Name the capital city of {0}. Give only the name.",
        "Which city is the capital of {0}? Reply with the city's name and nothing else.",
        "I am drawing a map for the wall of my room and still need a label for the capital city of {0}. "
        "Please write just the name of that city.",
        "The capital of {0} is",
    ),
    "de": (
        "Was ist die Hauptstadt von {0}? Antworte nur mit dem Namen der Stadt.",
        "Wie heißt die Hauptstadt von {0}? Nenne nur den Namen.",
        "Nenne die Hauptstadt von {0}. Bitte schreibe nur den Namen der Stadt, ohne ganzen Satz.",
    ),
    "es": (
        "¿Cuál es la capital de {0}? Responde solo con el nombre de la ciudad.",
        "¿Cómo se llama la capital de {0}? Di solo el nombre.",
        "Nombra la capital de {0}. Escribe únicamente el nombre de la ciudad, sin frase completa.",
    ),
}
_COUNTRY = (
    "{0} is the capital of which country? Answer with only the name of the country.",
    "Which country has {0} as its capital? Give only the country's name.",
    "A friend of mine lives in {0}, the capital of a country. Which country is that? Answer with its name only.",
)
_CONTINENT = (
    "On which continent is {0}? Answer with only the continent.",
    "Which continent is {0} on? Choose from Africa, Asia, Europe, North America, South America, Oceania.",
)
_CONTINENTS = ("Africa", "Asia", "Europe", "North America", "South America", "Oceania")
_SAYABLE = {"Luxembourg", "Panama"}  # the name gives the capital away: asked in no direction


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a question about one country of the level."""
    known = [c for c in COUNTRIES if c.level == difficulty and c.name not in _SAYABLE]
    if language != "en":
        return _capital(rng.choice([c for c in known if c.name_de] or _translated()), language)
    country = rng.choice(known)
    kind = rng.choices(("capital", "country", "continent"), (4, 2, 1))[0]
    if kind == "country":
        capital = country.capital.split("|")[0]
        name = country.name.removeprefix("the ").removesuffix(" (the country)")
        return mentions_task(settled(_COUNTRY, capital).format(capital), [name, *_ALIASES.get(name, ())])
    if kind == "continent" and country.continent in _CONTINENTS:
        return choice_task(settled(_CONTINENT, country.name).format(country.name), country.continent, _CONTINENTS)
    return _capital(country, language)


_ALIASES = {
    "England": ("United Kingdom", "UK", "Great Britain", "Britain"),
    "Czech Republic": ("Czechia",),
    "Turkey": ("Türkiye",),
    "Myanmar": ("Burma",),
    "Netherlands": ("Holland",),
}


def _translated() -> list[Country]:
    return [country for country in COUNTRIES if country.level == 4 and country.name_de]


def _capital(country: Country, language: str) -> Draft:
    names = {"en": country.name, "de": country.name_de, "es": country.name_es.split("|")[0]}
    capitals = {"en": country.capital, "de": country.capital_de, "es": country.capital_es}
    prompt = settled(_CAPITAL[language], f"{language}:{country.name}").format(names[language])
    return mentions_task(prompt, [*capitals[language].split("|"), *country.capital.split("|")])
