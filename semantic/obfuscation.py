"""Obfuscation: from the detailed question to the vague description that the sensor agent may see.

The rules below keep what kind of thing is asked (an attribute's name, a number, a position) and drop every attribute
value and every referenced object, as in the paper's example "This is a question related to colors in the image".
"""

import re

_KINDS: tuple[tuple[str, str], ...] = (
    (r"\b(how many|what number)\b", "the number of things"),
    (r"\b(fewer|more|less|greater|as many|number of)\b", "two numbers"),
    (r"\bmade of\b|\bwhat (?:is the )?material\b", "the material of a thing"),
    (r"\bwhat (?:is the )?(color|shape|size)\b", r"the {} of a thing"),
    (r"\b(?:does|do|is the (?:color|shape|size|material))\b.*?\b(color|shape|size|material)\b|"
     r"\bis the (color|shape|size|material)\b", "the same {} of two things"),
)  # fmt: skip
_POSITION = re.compile(r"\b(left|right|front|behind)\b")
_SAME = re.compile(r"\bsame (color|shape|size|material)\b|\bother\b.*\b(color|shape|size|material)\b")


def obfuscate(question: str) -> str:
    """Describe a question vaguely: what it is about, but none of its attribute values or objects.

    Parameters
    ----------
    question : str
        The detailed question, in CLEVR's or the project's own wording.

    Returns
    -------
    str
        "this is a question about …", possibly "and position" or "and same color".
    """
    text = question.lower()
    about = "the presence of a thing"
    for pattern, kind in _KINDS:
        if match := re.search(pattern, text):
            about = kind.format(next((g for g in match.groups() if g), "")) if "{}" in kind else kind
            break
    extra = ""
    if _POSITION.search(text):
        extra = " and position"
    elif not about.startswith("the same") and (match := _SAME.search(text)):
        extra = f" and same {match[1] or match[2]}"
    return f"this is a question about {about}{extra} ."
