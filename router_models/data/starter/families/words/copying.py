"""Repeat a text exactly, or pick out the marked part of one. Long prompts, little work."""

import random

from router_models.data.starter.families.base import exact_task, settled
from router_models.data.starter.families.words.words_data import COMMON_WORDS, LONG_WORDS, words
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_REPEAT = {
    "en": (
        "Repeat this exactly: {0}",
        "Copy the following line word for word and add nothing: {0}",
        "Please write out the text between the lines once more, exactly as it stands, without any "
        "change.\n---\n{0}\n---",
    ),
    "de": (
        "Wiederhole diesen Satz genau: {0}",
        "Schreibe den folgenden Satz Wort für Wort ab und füge nichts hinzu: {0}",
    ),
    "es": (
        "Repite exactamente esta frase: {0}",
        "Copia la siguiente frase palabra por palabra y no añadas nada: {0}",
    ),
}
_PARTS = {
    "en": (
        ("The old man", "My sister", "A small dog", "The new teacher", "Our neighbor", "The tired driver"),
        ("walked slowly to", "waited outside", "took a photo of", "talked about", "remembered", "drove past"),
        ("the red house", "the train station", "the wooden bridge", "the empty school", "the big market"),
        (
            "in the rain.",
            "before lunch.",
            "last Friday.",
            "without a word.",
            "at half past nine.",
            "for an hour.",
        ),
    ),
    "de": (
        ("Der alte Mann", "Meine Schwester", "Ein kleiner Hund", "Die neue Lehrerin"),
        ("wartet vor", "träumt von", "sitzt hinter"),
        ("dem roten Haus", "der alten Schule", "dem großen Baum", "der langen Brücke"),
        ("im Regen.", "am Freitag.", "ohne ein Wort.", "bis zum Abend."),
    ),
    "es": (
        ("El viejo", "Mi hermana", "Un perro pequeño", "La nueva maestra"),
        ("espera cerca de", "pasa delante de", "sueña con"),
        ("la casa roja", "la estación", "la escuela vacía", "una plaza grande"),
        ("bajo la lluvia.", "el viernes.", "sin decir nada.", "antes de comer."),
    ),
}
_WORD = {
    "en": (
        "Say only this word: {0}",
        "Reply with the word {0} and nothing else.",
        "Write the word {0} once.",
    ),
    "de": ("Schreibe nur dieses Wort: {0}", "Antworte nur mit dem Wort {0} und sonst nichts."),
    "es": ("Escribe solo esta palabra: {0}", "Responde solo con la palabra {0} y nada más."),
}
_CODE = (
    "Repeat this code exactly, character for character: {0}",
    "Below is a serial number from the back of a device. Copy it exactly, without any change or comment.\n\n{0}",
)
_TWICE = ("Write the word {0} exactly {1} times, separated by blanks, and nothing else.",)
_WORDS_DE = words("Fenster Garten Brücke Apfel Sommer Straße Kaffee Zeitung Schlüssel Wolke Berg Lampe")
_WORDS_ES = words("ventana jardín puente manzana verano calle café periódico llave nube montaña lámpara")


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: a word; 2: a sentence; 3: two sentences; 4: a serial number; 5: a word several times, a long number."""
    if difficulty == 1:
        pool = {"en": COMMON_WORDS + LONG_WORDS, "de": _WORDS_DE, "es": _WORDS_ES}[language]
        word = rng.choice(pool)
        return exact_task(settled(_WORD[language], word).format(word), word, fold_case=True, max_tokens=16)
    if difficulty <= 3 or language != "en":
        text = " ".join(_sentence(rng, language) for _ in range(1 if difficulty <= 2 else 2))
        return _verbatim(settled(_REPEAT[language], text).format(text), text, 64)
    if difficulty == 4 or rng.random() < 0.5:
        groups = difficulty - 1
        serial = "-".join("".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ23456789", k=4)) for _ in range(groups))
        return _verbatim(settled(_CODE, serial).format(serial), serial, 48)
    word, times = rng.choice(COMMON_WORDS), rng.randint(3, 6)
    return _verbatim(settled(_TWICE, word).format(word, times), " ".join([word] * times), 32)


def _sentence(rng: random.Random, language: str) -> str:
    return " ".join(rng.choice(part) for part in _PARTS[language])


def _verbatim(prompt: str, text: str, max_tokens: int) -> Draft:
    return Draft(prompt, "verbatim", {"text": text}, text, max_tokens)
