"""Obfuscation: from the detailed question to the vague description that the sensor agent may see.

The rules below keep the kind of question (an attribute's name, a number, a position). They drop every attribute value
and every object, as in the paper's example "This is a question related to colors in the image". The name of an
attribute is the only thing that they copy, so nothing else can leak.
"""

import re

_ATTRIBUTE = r"\b(color|shape|size|material)s?\b"
_COUNT = re.compile(r"\bhow many\b|\bwhat (?:is the )?number\b")
_NUMBERS = re.compile(r"\b(?:fewer|more|less|greater|as many|number of)\b")
_EXIST = re.compile(r"\b(?:is|are) (?:there|any)\b|^is (?:an?|no) |^does the image ")
_ASKED = re.compile(rf"\bwhat (?:is (?:the|its) )?{_ATTRIBUTE}")
_NAMED_SHAPE = re.compile(r"^what is the \w+ shape\b")  # easy-VQA's "what is the blue shape?"
_MADE_OF, _HOW_BIG = re.compile(r"\bwhat\b.*\bmade of\b"), re.compile(r"\bhow (?:big|large)\b")
_COMPARED = re.compile(rf"^is (?:the|its) {_ATTRIBUTE}|^.*{_ATTRIBUTE}")  # at the start, or else the last
_POSITION = re.compile(r"\b(?:left|right|front|behind)\b")
_SAME = re.compile(rf"\bsame {_ATTRIBUTE}")


def obfuscate(question: str) -> str:
    """Describe a question vaguely: by its kind, without its attribute values and objects.

    Parameters
    ----------
    question : str
        Detailed question, in CLEVR's, easy-VQA's or the project's own wording.

    Returns
    -------
    str
        "this is a question about …", possibly "and position" or "and same color".
    """
    text = question.lower()
    about = _about(text.rpartition(";")[2].strip())  # "there is a ball; what is its size?" asks in its last clause
    if _POSITION.search(text):
        extra = " and position"
    elif not about.startswith("the same") and (match := _SAME.search(text)):
        extra = f" and same {match[1]}"
    else:
        extra = ""
    return f"this is a question about {about}{extra} ."


def _about(clause: str) -> str:
    """Name the kind of thing that a clause asks for."""
    if _COUNT.search(clause):
        return "the number of things"
    if _NUMBERS.search(clause):
        return "two numbers"
    if _EXIST.search(clause):
        return "the presence of a thing"
    if match := _ASKED.search(clause):
        return f"the {match[1]} of a thing"
    if _NAMED_SHAPE.search(clause):
        return "the shape of a thing"
    if _MADE_OF.search(clause):
        return "the material of a thing"
    if _HOW_BIG.search(clause):
        return "the size of a thing"
    if match := _COMPARED.search(clause):
        return f"the same {match[1] or match[2]} of two things"
    return "the presence of a thing"
