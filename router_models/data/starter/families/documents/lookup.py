"""Find one stated fact in a text, which may be short or long, and give it as it stands."""

import random

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.words.words_data import CITIES, JOBS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_FILLER = (
    "The weather was pleasant for most of the day.",
    "Coffee and water will be available in the hall.",
    "Nobody had expected so many visitors.",
    "The building was painted only last summer.",
    "Please keep the noise down after the break.",
    "There is a small garden behind the house.",
    "The parking lot is usually full before noon.",
    "Most people arrive by bus or on foot.",
)
# language -> (text, questions with their slots)
_TEXTS = {
    "en": (
        ("{who} works as a {job} in {city}. The phone number of the office is {phone}.",
         (("What is {who}'s job?", "job"), ("In which city does {who} work?", "city"),
          ("What is the phone number?", "phone"))),
        ("The meeting with {who} takes place on {day} at {time} in room {room}.",
         (("Who is the meeting with?", "who"), ("On which day is the meeting?", "day"),
          ("In which room is the meeting?", "room"),
          ("At what time is the meeting?", "time"))),
        ("Order {order} was shipped to {who} in {city} and will arrive on {day}.",
         (("What is the order number?", "order"), ("To which city was it shipped?", "city"),
          ("When will it arrive?", "day"),
          ("Who is the order for?", "who"))),
        ("{who} bought a {color} bicycle for {price} dollars from a shop in {city}.",
         (("What color is the bicycle?", "color"), ("How many dollars did the bicycle cost?", "price"),
          ("Where is the shop?", "city"), ("Who bought the bicycle?", "who"))),
        ("For questions write to {mail} or ask {who}, our {job}, between {day} and Saturday.",
         (("Which e-mail address is given?", "mail"), ("What is the name of the {job}?", "who"),
          ("What is {who}'s job?", "job"))),
    ),
    "de": (
        ("{who} arbeitet in {city}. Die Telefonnummer des Büros ist {phone}.",
         (("In welcher Stadt arbeitet {who}?", "city"), ("Wie lautet die Telefonnummer?", "phone"))),
        ("Das Treffen mit {who} findet am {day} um {time} Uhr in Raum {room} statt.",
         (("An welchem Tag ist das Treffen?", "day"), ("In welchem Raum ist das Treffen?", "room"),
          ("Mit wem ist das Treffen?", "who"))),
        ("Die Bestellung {order} geht an {who} in {city}.",
         (("Wie lautet die Bestellnummer?", "order"), ("In welche Stadt geht die Bestellung?", "city"),
          ("Wer bekommt die Bestellung?", "who"))),
    ),
    "es": (
        ("{who} trabaja en {city}. El teléfono de la oficina es {phone}.",
         (("¿En qué ciudad trabaja {who}?", "city"), ("¿Cuál es el teléfono?", "phone"))),
        ("La reunión con {who} es el {day} a las {time} en la sala {room}.",
         (("¿Qué día es la reunión?", "day"), ("¿En qué sala es la reunión?", "room"),
          ("¿Con quién es la reunión?", "who"))),
        ("El pedido {order} se envió a {who}, que vive en {city}.",
         (("¿Cuál es el número del pedido?", "order"), ("¿En qué ciudad vive {who}?", "city"),
          ("¿A quién se envió el pedido?", "who"))),
    ),
}  # fmt: skip
_ASK = {
    "en": (
        "{text} {question} Answer with only that piece of information.",
        "{question} Give only the answer.\n\nText: {text}",
        "Read the text and answer the question in as few words as possible.\n\n{text}\n\nQuestion: {question}",
    ),
    "de": (
        "{text} {question} Antworte so kurz wie möglich.",
        "{question} Gib nur die Antwort.\n\nText: {text}",
    ),
    "es": (
        "{text} {question} Responde lo más breve posible.",
        "{question} Da solo la respuesta.\n\nTexto: {text}",
    ),
}
_DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes"),
}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1, 2: one statement, perhaps with filler; 3 to 5: two to four statements of the same kind to tell apart."""
    text, questions = rng.choice(_TEXTS[language])
    people = rng.sample(PEOPLE, 5)
    count = max(1, difficulty - 1)
    rows = [_slots(rng, people[place], language) for place in range(count)]
    statements = [text.format(**row) for row in rows]
    target = rng.randrange(count)
    if count > 1:
        question, slot = rng.choice([(q, s) for q, s in questions if s != "who"])
        question = _about(question, rows[target]["who"], language)
    else:
        question, slot = rng.choice(questions)
        question = question.format(**rows[0])
    if language == "en":
        for filler in rng.sample(_FILLER, rng.choice((0, 0, 1, 2, 4))):
            statements.insert(rng.randint(0, len(statements)), filler)
    shown = " ".join(statements)
    prompt = settled(_ASK[language], shown + question).format(text=shown, question=question)
    answer = rows[target][slot]
    rivals = sorted({row[slot] for row in rows} - {answer})
    return Draft(prompt, "mentions", {"accepted": [answer], "rivals": rivals}, answer, 24)


def _about(question: str, who: str, language: str) -> str:
    lead = {
        "en": "About the entry that names {0}: ",
        "de": "Zum Eintrag mit {0}: ",
        "es": "Sobre la línea con {0}: ",
    }
    question = question.format(who=who, job="employee")
    return lead[language].format(who) + question


def _slots(rng: random.Random, who: str, language: str) -> dict[str, str]:
    return {
        "who": who,
        "job": rng.choice(JOBS),
        "city": rng.choice(CITIES),
        "phone": f"555-{rng.randint(1000, 9999)}",
        "day": rng.choice(_DAYS[language]),
        "time": f"{rng.randint(8, 18)}:{rng.choice(('00', '15', '30', '45'))}",
        "room": str(rng.randint(101, 499)),
        "order": f"{rng.choice('ABCDEFGH')}{rng.randint(1000, 9999)}",
        "color": rng.choice(("red", "blue", "green", "black", "white", "yellow")),
        "price": str(rng.randint(80, 900)),
        "mail": rng.choice(("info@", "help@", "office@", "team@"))
        + rng.choice(("northwind.example", "bluebird.example", "oakhill.example")),
    }
