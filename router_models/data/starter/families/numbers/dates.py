"""Reckon with dates and clock times."""

import datetime
import random

from router_models.data.starter.families.base import number_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_MONTH_NAMES = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
                "October", "November", "December")  # fmt: skip
_LENGTH = (
    "How many days are there in {0}? Answer with only the number.",
    "Give the number of days in {0}, as a number only.",
    "I am planning a daily habit for {0} and need to know how many days it has. Write just the number.",
)
_AGE = (
    "Someone was born in {0}. How old do they turn in {1}? Answer with only the number.",
    "How many years passed between {0} and {1}? Give only the number.",
    "A bridge was opened in {0} and closed for good in {1}. For how many years was it in use? "
    "Answer with only the number.",
)
_LATER = (
    "What is the date {1} days after {0}? Answer in the form YYYY-MM-DD.",
    "A parcel sent on {0} needs {1} days. On which date does it arrive? Write only the date as YYYY-MM-DD.",
    "Add {1} days to {0} and write only the resulting date (YYYY-MM-DD).",
)
_BETWEEN = (
    "How many days after {0} is {1}? Answer with only the number.",
    "We check in on {0} and check out on {1}. How many nights do we stay? Only the number, please.",
)
_CLOCK = (
    "A train leaves at {0} and the journey takes {1} minutes. When does it arrive? Answer in the form HH:MM.",
    "What time is it {1} minutes after {0}? Answer in 24-hour form, HH:MM, and nothing else.",
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: lengths of months, simple spans of years; 2: years; 3: same month; 4: clock; 5: across months."""
    if difficulty == 1:
        month, year = rng.randint(1, 12), rng.randint(2015, 2031)
        days = (datetime.date(year + month // 12, month % 12 + 1, 1) - datetime.date(year, month, 1)).days
        name = f"{_MONTH_NAMES[month - 1]} {year}"
        return number_task(settled(_LENGTH, name).format(name), days)
    if difficulty == 2:
        start = rng.choice((rng.randint(195, 200) * 10, rng.randint(1900, 2005)))
        span = rng.choice((10, 20, 30, 40, 50, rng.randint(5, 60)))
        return number_task(settled(_AGE, f"{start}{span}").format(start, start + span), span)
    if difficulty == 3:
        day = datetime.date(rng.randint(2020, 2028), rng.randint(1, 12), rng.randint(1, 14))
        days = rng.randint(2, 12)
        if rng.random() < 0.5:
            return _later(day, days)
        end = day + datetime.timedelta(days=days)
        return number_task(settled(_BETWEEN, f"{day}{days}").format(day, end), days)
    if difficulty == 4:
        start, minutes = rng.randrange(6 * 60, 20 * 60, 5), rng.randrange(20, 130, 5)
        prompt = settled(_CLOCK, f"{start}{minutes}").format(_clock(start), minutes)
        return Draft(prompt, "mentions", {"accepted": _clock_forms(start + minutes)}, _clock(start + minutes), 24)
    return _later(datetime.date(rng.randint(2020, 2028), rng.randint(1, 12), rng.randint(20, 28)), rng.randint(9, 40))


def _later(day: datetime.date, days: int) -> Draft:
    end = (day + datetime.timedelta(days=days)).isoformat()
    return Draft(settled(_LATER, f"{day}{days}").format(day, days), "date", {"date": end}, end, 24)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _clock_forms(minutes: int) -> list[str]:
    hours, rest = divmod(minutes, 60)
    return [
        _clock(minutes),
        f"{hours}:{rest:02d}",
        f"{(hours - 1) % 12 + 1}:{rest:02d} {'pm' if hours >= 12 else 'am'}",
    ]
