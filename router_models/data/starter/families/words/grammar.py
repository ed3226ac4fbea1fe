"""Plurals, past tense, comparatives, articles and spelling."""

import random

from router_models.data.starter.families.base import choice_task, mentions_task, settled
from router_models.data.starter.families.words.words_data import COMMON_WORDS, LONG_WORDS, words
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
PLURALS = {
    1: words(
        "cat/cats dog/dogs book/books tree/trees car/cars house/houses apple/apples pen/pens river/rivers "
        "friend/friends table/tables bird/birds chair/chairs star/stars window/windows"
    ),
    2: words(
        "box/boxes bus/buses city/cities baby/babies story/stories dish/dishes watch/watches class/classes "
        "party/parties fox/foxes country/countries church/churches"
    ),
    3: words(
        "child/children man/men woman/women foot/feet tooth/teeth mouse/mice leaf/leaves wolf/wolves knife/knives "
        "potato/potatoes hero/heroes wife/wives"
    ),
    4: words(
        "goose/geese ox/oxen thief/thieves shelf/shelves loaf/loaves calf/calves crisis/crises analysis/analyses "
        "person/people sheep/sheep deer/deer"
    ),
    5: words(
        "phenomenon/phenomena criterion/criteria nucleus/nuclei bacterium/bacteria stimulus/stimuli "
        "hypothesis/hypotheses axis/axes larva/larvae alumnus/alumni mother-in-law/mothers-in-law "
        "passerby/passersby"
    ),
}
PAST = {
    1: words(
        "walk/walked play/played look/looked jump/jumped call/called help/helped ask/asked open/opened "
        "work/worked clean/cleaned"
    ),
    2: words(
        "stop/stopped try/tried go/went see/saw eat/ate have/had make/made run/ran come/came say/said "
        "plan/planned carry/carried"
    ),
    3: words(
        "take/took write/wrote buy/bought think/thought swim/swam drink/drank fly/flew know/knew break/broke "
        "bring/brought teach/taught"
    ),
    4: words(
        "choose/chose freeze/froze shake/shook steal/stole hide/hid throw/threw wear/wore draw/drew catch/caught "
        "rise/rose"
    ),
    5: words(
        "weave/wove seek/sought cling/clung slay/slew strive/strove sling/slung flee/fled forsake/forsook "
        "tread/trod bind/bound"
    ),
}
_ALSO = {"strove": ("strived",), "wove": ("weaved",), "slew": ("slayed",)}
_PLURAL_ASK = (
    'What is the plural of "{0}"? Answer with one word.',
    'Complete: one {0}, two ... Write only the missing word.',
    "A label in my shop has to say that there is more than one of a thing. The singular is \"{0}\". "
    "Which word do I write? Give only the plural form.",
)  # fmt: skip
_PAST_ASK = (
    'What is the past tense of "{0}"? Answer with one word.',
    'Write the simple past of the verb "{0}", and only that.',
    'Today I {0}. Yesterday I ... Which form of the verb "{0}" is missing? One word, please.',
)
_MISSPELT = (
    (1, "freind", "friend"), (1, "becuase", "because"), (1, "hapy", "happy"), (1, "scool", "school"),
    (1, "watr", "water"),
    (1, "brohter", "brother"), (2, "wich", "which"), (2, "beleive", "believe"), (2, "untill", "until"),
    (2, "realy", "really"),
    (2, "tommorow", "tomorrow"), (2, "beautifull", "beautiful"), (2, "recieve", "receive"),
    (2, "diferent", "different"),
    (3, "definately", "definitely"), (3, "seperate", "separate"), (3, "goverment", "government"),
    (3, "neccessary", "necessary"),
    (3, "calender", "calendar"), (3, "restarant", "restaurant"), (3, "enviroment", "environment"),
    (3, "suprise", "surprise"),
    (4, "embarassed", "embarrassed"), (4, "accomodation", "accommodation"), (4, "occured", "occurred"),
    (4, "rythm", "rhythm"),
    (4, "maintainance", "maintenance"), (4, "priviledge", "privilege"), (4, "concious", "conscious"),
    (4, "recomend", "recommend"),
    (5, "liason", "liaison"), (5, "millenium", "millennium"), (5, "bureaucrasy", "bureaucracy"),
    (5, "mischievious", "mischievous"),
    (5, "supercede", "supersede"), (5, "questionaire", "questionnaire"), (5, "miniscule", "minuscule"),
    (5, "entrepeneur", "entrepreneur"),
)  # fmt: skip
_SPELL_ASK = (
    'Correct the spelling of this word and write only the corrected word: "{0}"',
    'The word "{0}" is misspelled. What is the correct spelling? Answer with one word.',
)
_ARTICLE_ASK = (
    'Which article goes before "{0}": a or an? Answer with only the article.',
    'Fill the gap with "a" or "an" and write only that word: ___ {0}',
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a question on one word of the level."""
    roll = rng.random()
    if difficulty <= 2 and roll < 0.2:
        word = rng.choice(COMMON_WORDS + LONG_WORDS)
        if word[0] not in "uo" and word != "universe":
            article = "an" if word[0] in "aei" else "a"
            return choice_task(settled(_ARTICLE_ASK, word).format(word), article, ("a", "an"), max_tokens=8)
    if roll < 0.45:
        wrong, right = rng.choice([(wrong, right) for level, wrong, right in _MISSPELT if level == difficulty])
        return mentions_task(settled(_SPELL_ASK, wrong).format(wrong), [right], max_tokens=16)
    table, wordings = (PLURALS, _PLURAL_ASK) if roll < 0.72 else (PAST, _PAST_ASK)
    base, form = rng.choice(table[difficulty]).split("/")
    return mentions_task(settled(wordings, base).format(base), [form, *_ALSO.get(form, ())], max_tokens=16)
