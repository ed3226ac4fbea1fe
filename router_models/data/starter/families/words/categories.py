"""Say which of the given groups a thing belongs to; rarer things and closer groups are harder."""

import random

from router_models.data.starter.families.base import choice_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
# language -> group -> (well-known members, rarer members)
GROUPS = {
    "en": {
        "animal": ("dog cat horse cow lion tiger elephant rabbit mouse sheep pig monkey bear wolf",
                   "okapi tapir gecko vole marmoset ibex lynx otter newt badger"),
        "fruit": ("apple banana grape pear cherry strawberry mango pineapple blueberry",
                  "quince kumquat papaya guava tamarind lychee pomelo persimmon"),
        "vegetable": ("carrot potato onion cabbage spinach broccoli lettuce cauliflower",
                      "kohlrabi parsnip chard turnip leek fennel endive"),
        "vehicle": ("car bus train bicycle truck motorcycle tram taxi van",
                    "rickshaw hovercraft dinghy gondola sledge kayak trawler"),
        "color": ("red blue green yellow black white purple pink brown",
                  "beige teal magenta crimson maroon indigo turquoise ochre"),
        "profession": ("doctor teacher nurse farmer lawyer pilot baker soldier",
                       "cartographer actuary cobbler sommelier notary midwife glazier"),
        "musical instrument": ("piano guitar violin drum flute trumpet harp",
                               "oboe bassoon cello lute zither clarinet tuba mandolin"),
        "piece of furniture": ("chair table sofa bed desk wardrobe bookshelf",
                               "ottoman credenza stool armchair sideboard futon"),
        "item of clothing": ("shirt trousers dress hat coat socks skirt jacket",
                             "cardigan poncho kilt waistcoat beret kimono"),
        "tool": ("hammer screwdriver saw shovel wrench drill axe", "chisel trowel pliers sickle mallet crowbar"),
    },
    "de": {
        "Tier": ("Hund Katze Pferd Kuh Löwe Elefant Maus Schaf", "Dachs Luchs Molch Marder"),
        "Obst": ("Apfel Banane Birne Kirsche Traube Erdbeere", "Quitte Mirabelle Holunderbeere Nektarine"),
        "Gemüse": ("Karotte Kartoffel Zwiebel Spinat Brokkoli", "Kohlrabi Lauch Mangold Pastinake"),
        "Fahrzeug": ("Auto Bus Zug Fahrrad Lastwagen Motorrad", "Kutsche Mofa Gabelstapler Traktor"),
        "Beruf": ("Arzt Lehrer Bäcker Pilot Anwalt", "Notar Schreiner Hebamme Imker"),
        "Möbel": ("Tisch Stuhl Bett Sofa Schrank", "Kommode Hocker Sessel Vitrine"),
        "Werkzeug": ("Hammer Säge Bohrer Zange", "Meißel Hobel Feile"),
    },
    "es": {
        "animal": ("perro gato caballo vaca león elefante ratón oveja", "tejón lince nutria erizo"),
        "fruta": ("manzana plátano naranja uva pera cereza fresa", "membrillo níspero guayaba ciruela"),
        "verdura": ("zanahoria cebolla espinaca lechuga brócoli coliflor", "acelga puerro nabo apio"),
        "vehículo": ("coche autobús tren bicicleta camión moto", "trineo tranvía furgoneta carreta"),
        "profesión": ("médico profesor panadero piloto abogado", "notario carpintero apicultor fontanero"),
        "mueble": ("mesa silla cama sofá armario", "cómoda taburete sillón aparador"),
        "herramienta": ("martillo sierra taladro destornillador", "cincel tenaza alicates"),
    },
}  # fmt: skip
_WORDINGS = {
    "en": (
        'Is "{0}" {1}? Answer with only one of these.',
        'Which of these describes "{0}" best: {2}? Answer with the category only.',
        'Put the word "{0}" into one of these categories: {2}. Write only the category.',
        "I am sorting a box of word cards into piles, one pile for each category. The categories are {2}. "
        'The next card in my hand says "{0}". On which pile does it belong? Name just the category.',
    ),
    "de": (
        "In welche Kategorie gehört „{0}“: {2}? Antworte nur mit der Kategorie.",
        "Ich sortiere Wortkarten nach Kategorien: {2}. Auf der nächsten Karte steht „{0}“. "
        "Welche Kategorie passt? Nenne nur die Kategorie.",
    ),
    "es": (
        "¿A qué categoría pertenece «{0}»: {2}? Responde solo con la categoría.",
        "Estoy ordenando tarjetas por categorías: {2}. En la siguiente tarjeta pone «{0}». "
        "¿Qué categoría le corresponde? Escribe solo la categoría.",
    ),
}
_OR = {"en": "or", "de": "oder", "es": "o"}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Ask for the group of one thing among 2 (level 1) to 6 (level 5) groups; rarer things from level 3."""
    groups = GROUPS[language]
    answer = rng.choice(sorted(groups))
    word = rng.choice(groups[answer][difficulty >= 3].split())
    wrong = rng.sample(sorted(set(groups) - {answer}), difficulty)
    options = rng.sample([answer, *wrong], difficulty + 1)
    with_articles = [f"{_article(option)} {option}" for option in options]
    joined, joined_articles = _join(options, language), _join(with_articles, language)
    prompt = settled(_WORDINGS[language], f"{language}:{word}").format(word, joined_articles, joined)
    return choice_task(prompt, answer, options)


def _article(option: str) -> str:
    return "an" if option[0] in "aeiou" else "a"


def _join(options: list[str], language: str) -> str:
    return ", ".join(options[:-1]) + f" {_OR[language]} {options[-1]}"
