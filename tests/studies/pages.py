"""Made-up pages, and a page as a reader of HTML sees it: elements, attributes, texts, and what is not closed."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np

from studies import claims
from studies.page import gallery
from tests.studies.test_hostile_names import results as named_results
from tests.studies.test_overview import ACCURACY
from tests.studies.test_overview import results as made_up

SCRIPT = "<script>alert(1)</script>"


def results(accuracy=ACCURACY, axes=None, **more):
    """Results with all that a run's have."""
    run = made_up(accuracy, axes=axes, **more)
    nothing = np.full(run.variables["accuracy"].shape, np.nan)
    run.variables.update(psnr=nothing, ssim=nothing)
    run.attributes.update(config_json='{"link": {"channel": "cdl-c", "num_tx_ant": 4, "num_rx_ant": 8}}', seed=0)
    return run


def hostile_results(name):
    """Results whose schemes, axes and values are called by a name."""
    run = named_results(name, at=name, axis=name, values=(name, "other"))
    config = json.dumps({name: name, "link": {"channel": name}})
    run.attributes.update(study=name, config_json=config, git_commit=name)
    return run


def case(number=3, question="what ?", shape=(2, 3), num_snrs=2, side=6):
    """A case of the gallery with two schemes, one of which does not cross the link."""
    rng = np.random.default_rng(number)
    told = [gallery.Answered(question, True), gallery.Answered("2", False), None, *[gallery.Answered("1", True)] * 4]
    return gallery.Case(
        number=number,
        question=question,
        description=f"vaguely {question}",
        right_answer=question,
        family=question,
        image=rng.integers(0, 255, (side, side, 3), dtype=np.uint8),
        sent=rng.standard_normal(shape).astype(np.float32),
        received=rng.standard_normal((num_snrs, *shape)).astype(np.float32),
        answers={"machine-tokens": told[:num_snrs], question: [gallery.Answered("", False)]},
    )


def judged(text="a claim"):
    number = claims.Estimate(text, 0.1, 0.05, 0.2, 400)
    return [claims.Claim(1, text, text, claims.Verdict("reproduced", text, [number]))]


# --- reading ---

VOID = {"br", "img", "input", "meta"}


@dataclass
class Element:
    name: str
    attributes: dict
    parts: list = field(default_factory=list)  # texts and elements, in their order

    def all(self, name=None, **attributes):
        """Elements below, of a name and with some attributes; a class counts if it is one of several."""
        found = []
        for part in self.parts:
            if isinstance(part, Element):
                found += [part] * (name in (None, part.name) and part.has(attributes)) + part.all(name, **attributes)
        return found

    def has(self, attributes):
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return all(
            value in (self.attributes.get(key) or "").split() if key == "class" else self.attributes.get(key) == value
            for key, value in wanted.items()
        )

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].parts.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].parts.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    unknown_decl = handle_pi = handle_comment


def parsed(page):
    """Read a page; elements that are not closed in their order raise AssertionError."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].name}> is not closed"
    return reader.open[0]
