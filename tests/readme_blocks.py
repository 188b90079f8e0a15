"""The code blocks of a README, as a reader would copy them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def blocks(name, heading):
    """Return (language, text) of the code blocks below a heading of a README, up to the next heading of its rank."""
    text = (ROOT / name).read_text(encoding="utf-8")
    level = heading.split(" ")[0]
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.search(rf"^#{{2,{len(level)}}} ", text[start:], re.MULTILINE)
    section = text[start : start + end.start()] if end else text[start:]
    return re.findall(r"^```(\w*)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
