"""Positive or negative? From plain praise to double negation and sarcasm, with or without padding."""

import random

from router_models.data.starter.families.base import choice_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_THINGS = (
    "camera", "toaster", "office chair", "jacket", "phone", "coffee maker", "tent", "board game", "vacuum cleaner",
    "wristwatch", "desk lamp", "backpack", "sofa", "suitcase", "bicycle", "keyboard",
)  # fmt: skip
# level -> (positive sentences, negative sentences); {0} is the thing
_PLAIN = {
    1: (
        ("I love this {0}, it is wonderful.", "This is the best {0} I have ever had!",
         "What a fantastic {0}. I am so happy.",
         "The {0} is excellent and I enjoy it every day.", "Great {0}, I would recommend it to everyone.",
         "A beautiful {0}, and it made my day.", "Amazing quality. I am delighted with the {0}."),
        ("I hate this {0}, it is terrible.", "This is the worst {0} I have ever had!",
         "What an awful {0}. I am so angry.",
         "The {0} is horrible and I regret every cent.", "Bad {0}, I would not recommend it to anyone.",
         "A disgusting {0}, and it ruined my day.", "Terrible quality. I am very disappointed with the {0}."),
    ),
    2: (
        ("The {0} did exactly what we hoped for, and the price was fair.", "I would gladly choose the same {0} again.",
         "Solid work all around; the {0} has served me well.", "My whole family smiled when they saw the {0}.",
         "Five stars for the {0}, and thank you for the kind service."),
        ("The {0} fell apart after two days, and nobody answered my calls.", "I would never choose this {0} again.",
         "Poor work all around; the {0} has let me down.", "My whole family complained about the {0}.",
         "One star for the {0}, and shame on the rude service."),
    ),
    3: (
        ("I cannot complain about the {0}; it is not bad at all.",
         "I was worried about the {0} at first, but I need not have been.",
         "There is nothing I would change about the {0}.", "The {0} is hard to beat at this price.",
         "You will not regret choosing this {0}."),
        ("The {0} is not good, whatever the advertisement says.", "I expected to like the {0}, but I did not.",
         "I would not give the {0} to my worst enemy.", "The {0} is nothing like as good as people claim.",
         "Nobody in our group would want this {0} a second time."),
    ),
    4: (
        ("The color of the {0} is dull and it arrived late, but all in all I am very glad I chose it.",
         "Yes, the {0} has small faults; still, it is the one thing I would never give back.",
         "At first I was annoyed by the {0}. After a month I cannot imagine life without it."),
        ("The {0} looks lovely and came early, but all in all I wish I had never chosen it.",
         "Yes, the {0} has a nice touch or two; still, I want my money back.",
         "At first I was thrilled with the {0}. After a month I cannot stand it any longer."),
    ),
    5: (
        ("I tried hard to find something wrong with the {0} and failed miserably.",
         "Warning: this {0} will make every other one you own look like junk.",
         "The only bad thing about the {0} is that I did not find it years ago.",
         "My neighbor is sick with envy about the {0}, and I do not blame him."),
        ("Oh great, a {0} that breaks on the first day. Just what I always dreamed of.",
         "If you enjoy throwing money out of the window, this {0} is perfect for you.",
         "The {0} is brilliant, provided that you never plan to use it.",
         "Congratulations to whoever approved this {0}; it takes real talent to get everything wrong."),
    ),
}  # fmt: skip
_PADDING = (
    "I ordered on a Tuesday.", "It came in a plain brown box.", "My brother has one as well.",
    "I mostly use it at weekends.",
    "It was my second try after a long search.", "The receipt is still in my drawer.",
    "I usually do not write reviews.",
    "The shop is close to the harbor.", "I am a student and live in a small town.",
)  # fmt: skip
_THINGS_DE = ("Hotel", "Handy", "Buch", "Fahrrad", "Restaurant", "Konzert")
_DE = {
    1: (("Das {0} ist wunderbar, ich liebe es.", "Ein tolles {0}, ich bin sehr glücklich damit.",
         "Das beste {0}, das ich je gesehen habe!"),
        ("Das {0} ist schrecklich, ich hasse es.", "Ein furchtbares {0}, ich bin sehr verärgert.",
         "Das schlechteste {0}, das ich je gesehen habe!")),
    2: (("Das {0} hat uns sehr gut gefallen, und der Preis war fair.", "Dieses {0} empfehle ich gerne weiter."),
        ("Das {0} hat uns gar nicht gefallen, und der Preis war zu hoch.", "Von diesem {0} rate ich allen ab.")),
    3: (("An dem {0} gibt es nichts auszusetzen.", "Das {0} ist gar nicht schlecht, ich bin positiv überrascht."),
        ("Das {0} ist nicht gut, egal was die Werbung sagt.",
         "Ich hatte mich auf das {0} gefreut, aber es war nichts.")),
    4: (("Anfangs hat mich das {0} gestört, aber heute möchte ich es nicht mehr missen.",),
        ("Anfangs war ich vom {0} begeistert, aber inzwischen ärgere ich mich nur noch.",)),
    5: (("Das Einzige, was mich am {0} stört: dass ich es nicht früher entdeckt habe.",),
        ("Na toll, ein {0}, das schon am ersten Tag enttäuscht. Genau das hat mir noch gefehlt.",)),
}  # fmt: skip
_THINGS_ES = ("hotel", "teléfono", "libro", "restaurante", "concierto", "curso")
_ES = {
    1: (("Me encanta este {0}, es maravilloso.", "¡Es el mejor {0} que he visto en mi vida!",
         "Un {0} excelente, estoy muy feliz."),
        ("Odio este {0}, es horrible.", "¡Es el peor {0} que he visto en mi vida!",
         "Un {0} pésimo, estoy muy enfadado.")),
    2: (("El {0} nos gustó mucho y el precio era justo.", "Recomiendo este {0} a todo el mundo."),
        ("El {0} no nos gustó nada y el precio era demasiado alto.", "No recomiendo este {0} a nadie.")),
    3: (("No tengo ninguna queja de este {0}.", "El {0} no está nada mal, me ha sorprendido para bien."),
        ("El {0} no es bueno, diga lo que diga la publicidad.",
         "Esperaba mucho de este {0}, pero fue una decepción.")),
    4: (("Al principio el {0} no me convencía, pero ahora no podría estar más contento.",),
        ("Al principio el {0} me encantaba, pero ahora no lo soporto.",)),
    5: (("Lo único malo de este {0} es no haberlo descubierto antes.",),
        ("Qué bien, un {0} que decepciona desde el primer día. Justo lo que necesitaba.",)),
}  # fmt: skip
_POOLS = {"en": (_PLAIN, _THINGS), "de": (_DE, _THINGS_DE), "es": (_ES, _THINGS_ES)}
_LABELS = {"en": ("positive", "negative"), "de": ("positiv", "negativ"), "es": ("positivo", "negativo")}
_ASK = {
    "en": (
        'Is the sentiment of this review positive or negative? Answer with one word.\n\n"{0}"',
        "Review: {0}\nSentiment (positive or negative):",
        "Classify the following text as positive or negative. Reply with only that word. Text: {0}",
        "Below is a comment that a customer left on our site. Tell me whether the customer is happy or not: write "
        '"positive" if so and "negative" if not, and nothing else.\n\n{0}',
    ),
    "de": (
        "Ist diese Bewertung positiv oder negativ? Antworte mit einem Wort.\n\n{0}",
        "Bewertung: {0}\nIst die Stimmung positiv oder negativ? Nur ein Wort.",
    ),
    "es": (
        "¿Esta reseña es positiva o negativa? Responde solo «positivo» o «negativo».\n\n{0}",
        "Reseña: {0}\n¿El sentimiento es positivo o negativo? Una sola palabra.",
    ),
}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a review of the level; in English half of them are padded with neutral sentences."""
    levels, things = _POOLS[language]
    good = rng.random() < 0.5
    sentence = rng.choice(levels[difficulty][0 if good else 1]).format(rng.choice(things))
    sentences = [sentence]
    if language == "en" and rng.random() < 0.5:
        for padding in rng.sample(_PADDING, rng.randint(1, 4)):
            sentences.insert(rng.randint(0, len(sentences)), padding)
    text = " ".join(sentences)
    answer = _LABELS[language][0 if good else 1]
    draft = choice_task(settled(_ASK[language], text).format(text), answer, _LABELS[language])
    aliases = {label: _OTHER_FORMS[label] for label in _LABELS[language]}
    return Draft(draft.prompt, "choice", {**draft.reference, "aliases": aliases}, answer, 16)


_OTHER_FORMS = {
    "positive": ["positiv"], "negative": ["negativ"],
    "positiv": ["positive"], "negativ": ["negative"],
    "positivo": ["positiva", "positive"], "negativo": ["negativa", "negative"],
}  # fmt: skip
