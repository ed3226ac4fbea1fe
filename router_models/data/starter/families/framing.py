"""Openings and closings around a question, so that the length of a prompt says little about its difficulty.

The frame is a function of the question's own text: one question always wears the same frame.
"""

from router_models.data.starter.families.base import settled

_OPENINGS = {
    "en": (
        "Hello!",
        "Hi there, I hope you are well.",
        "Please help me with the following.",
        "Quick one:",
        "Read the task carefully.",
        "Good morning! Here is something small I would like you to do for me.",
        "I am filling in a worksheet and would like to be sure about this one.",
        "A colleague asked me this over lunch and none of us at the table was completely sure, so I am asking you.",
        "I have a short task for you today. There is no trick in it, and I will check the result afterwards.",
        "You are a careful assistant who follows instructions to the letter and keeps answers short.",
    ),
    "de": (
        "Hallo!",
        "Guten Tag, ich habe eine kurze Aufgabe.",
        "Bitte hilf mir bei der folgenden Aufgabe.",
        "Ich bereite gerade ein Arbeitsblatt vor und möchte bei dieser Aufgabe ganz sicher sein.",
    ),
    "es": (
        "¡Hola!",
        "Buenos días, tengo una tarea breve.",
        "Por favor, ayúdame con lo siguiente.",
        "Estoy preparando una hoja de ejercicios y quiero estar seguro de esta respuesta.",
    ),
}
_CLOSINGS = {
    "en": ("Thanks!", "Thank you very much.", "Thanks in advance for your help."),
    "de": ("Danke!", "Vielen Dank im Voraus."),
    "es": ("¡Gracias!", "Muchas gracias de antemano."),
}

_LONGEST_FRAMED = 180


def frame(question: str, language: str, *, closing: bool = True) -> str:
    """Return `question` as it stands (about half), or with an opening, or with a closing where one is allowed."""
    roll = settled(range(100), f"frame:{question}")
    if roll < 50 or len(question) > _LONGEST_FRAMED:
        return question
    joint = "\n\n" if "\n" in question else " "
    if roll < 85:
        return settled(_OPENINGS[language], f"open:{question}") + joint + question
    if "\n" in question or question[-1] not in ".?!" or not closing:
        return question
    return question + " " + settled(_CLOSINGS[language], f"close:{question}")
