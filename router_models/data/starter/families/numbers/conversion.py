"""Convert between units."""

import random

from router_models.data.starter.families.base import number_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
# level -> (from, to, how many of the second make one of the first, smallest amount, largest amount)
_UNITS = {
    1: (("hours", "minutes", 60, 1, 5), ("weeks", "days", 7, 1, 4), ("years", "months", 12, 1, 3),
        ("meters", "centimeters", 100, 1, 9), ("kilometers", "meters", 1000, 1, 9), ("minutes", "seconds", 60, 1, 4),
        ("kilograms", "grams", 1000, 1, 9), ("days", "hours", 24, 1, 2), ("dollars", "cents", 100, 1, 9)),
    2: (("hours", "minutes", 60, 4, 12), ("weeks", "days", 7, 4, 12), ("years", "months", 12, 4, 10),
        ("feet", "inches", 12, 2, 10), ("meters", "centimeters", 100, 12, 60), ("liters", "milliliters", 1000, 2, 30),
        ("yards", "feet", 3, 4, 30), ("tonnes", "kilograms", 1000, 2, 40)),
    3: (("minutes", "seconds", 60, 7, 30), ("days", "hours", 24, 3, 12), ("centimeters", "millimeters", 10, 11, 99),
        ("pounds", "ounces", 16, 2, 9), ("grams", "milligrams", 1000, 11, 80), ("gallons", "quarts", 4, 6, 40)),
    4: (("hours", "seconds", 3600, 2, 6), ("miles", "feet", 5280, 2, 5), ("kilometers", "centimeters", 100000, 2, 9),
        ("weeks", "hours", 168, 2, 5), ("days", "minutes", 1440, 2, 4), ("yards", "inches", 36, 3, 20)),
}  # fmt: skip
_WORDINGS = (
    "How many {1} are there in {0}? Answer with only the number.",
    "Convert {0} to {1}. Give only the number.",
    "{0} = ? {1}. Reply with the number alone.",
    "A form I have to fill in wants the value in {1}, and what I have is {0}. "
    "What number should I write down? Answer with only the number.",
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Levels 1 to 4: one conversion; level 5: temperatures, areas, speeds and mixed times."""
    if difficulty == 5:
        amount, unit, value = rng.choice((_celsius, _fahrenheit, _speed, _mixed, _area))(rng)
    else:
        name, unit, factor, low, high = rng.choice(_UNITS[difficulty])
        count = rng.randint(low, high)
        amount, value = f"{count} {name if count != 1 else name.removesuffix('s')}", count * factor
    return number_task(settled(_WORDINGS, amount + unit).format(amount, unit), value)


def _celsius(rng: random.Random) -> tuple[str, str, int]:
    value = rng.randrange(-10, 105, 5)
    return f"{value} degrees Celsius", "degrees Fahrenheit", value * 9 // 5 + 32


def _fahrenheit(rng: random.Random) -> tuple[str, str, int]:
    value = rng.randrange(-10, 105, 5)
    return f"{value * 9 // 5 + 32} degrees Fahrenheit", "degrees Celsius", value


def _speed(rng: random.Random) -> tuple[str, str, int]:
    value = rng.randint(1, 10) * 5
    return f"{value * 18 // 5} kilometers per hour", "meters per second", value


def _mixed(rng: random.Random) -> tuple[str, str, int]:
    hours, minutes = rng.randint(1, 5), rng.randint(1, 11) * 5
    return f"{hours} hour{'s' * (hours > 1)} and {minutes} minutes", "minutes", hours * 60 + minutes


def _area(rng: random.Random) -> tuple[str, str, int]:
    value = rng.randint(2, 9)
    return f"{value} square meters", "square centimeters", value * 10_000
