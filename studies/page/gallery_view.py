"""The gallery as HTML: a case for each question, its codes as pictures."""

import base64
import io

import numpy as np
from PIL import Image

from studies.axes import named
from studies.page.gallery import Answered, Case, Gallery
from studies.page.markup import Html, element, joined, scrolling

LARGEST_SIDE = 320  # of an image, [pixels]
JPEG_QUALITY = 85
MOST_ROWS, MOST_COLUMNS = 16, 256  # of codes that are drawn
LOW, ZERO, HIGH = (178, 84, 20), (247, 247, 247), (23, 84, 150)  # orange, white, blue


def gallery_section(gallery: Gallery) -> Html:
    """Return all cases, with a few lines that say what is to be seen."""
    shape = gallery.cases[0].sent.shape
    where = f" ({gallery.at})" if gallery.at else ""
    intro = [
        element(
            "p",
            "The sensor agent sees the image, and of the question only a vague description. What matters it writes as "
            f"{shape[0]} tokens of {shape[1]} real numbers each, the codes; a row of a picture is a token, blue is "
            "above zero and orange below. They are sent as amplitudes, without bits, and arrive with errors. The task "
            "agent, which has no image, reads them as a prefix and answers the detailed question.",
        ),
        element(
            "p",
            f"The questions are drawn by the seed of the run, evenly over the families, without a look at any answer. "
            f"Each met its own fade, the same in every scheme{where}. Beside the codes stands the energy of their "
            "error in percent of their own.",
            class_="soft",
        ),
    ]
    if gallery.num_changed:
        num_answers = len(gallery.cases) * len(gallery.snr_db)
        intro.append(
            element(
                "p",
                f"Of {num_answers} answers to machine tokens, {gallery.num_changed} would be others today: code or "
                "libraries have changed since the run. The table has those of the run.",
            )
        )
    return joined([*intro, *(_case(case, gallery.snr_db, i) for i, case in enumerate(gallery.cases, 1))])


def _case(case: Case, snr_db: list[float], position: int) -> Html:
    name = f"case-{position}"
    facts = {
        "detailed question": element("strong", case.question),
        "vague description": joined([f"“{case.description}”"]),
        "right answer": element("strong", case.right_answer),
        "codes as sent": _codes(case.sent, float(np.abs(case.sent).max()), "codes as sent"),
    }
    terms = joined(part for term, value in facts.items() for part in (element("dt", term), element("dd", value)))
    what = f"question {case.number}, over fade {case.number}"
    picture = element("img", src=_jpeg(case.image), alt=f"what the sensor sees: the image of {what}")
    heading = element("h3", f"Question {position}: {case.family}", id=name)
    return element(
        "article",
        heading,
        element("div", element("figure", picture, element("figcaption", what)), element("dl", terms)),
        scrolling(_table(case, snr_db), f"What arrived and what was answered, {what}"),
        class_="case",
        aria_labelledby=name,
    )


def _table(case: Case, snr_db: list[float]) -> Html:
    scale = float(np.abs(case.sent).max())
    power = float(np.sum(np.float64(case.sent) ** 2))
    heads = [element("th", named("snr_db", at), scope="col") for at in snr_db]
    arrived = []
    for at, codes in zip(snr_db, case.received, strict=True):
        error = 100 * float(np.sum((np.float64(codes) - case.sent) ** 2)) / power if power else np.nan
        picture = _codes(codes, scale, f"codes as received at {named('snr_db', at)}")
        arrived.append(element("td", picture, element("small", f"error {error:.3g} %")))
    rows = [element("tr", element("th", "codes as received", scope="row"), *arrived)]
    for scheme, along in case.answers.items():
        wide = len(snr_db) if len(along) < len(snr_db) else None
        always = [element("span", ", whatever the SNR", class_="soft")] if wide else []
        cells = [element("td", _mark(answered), *always, colspan=wide) for answered in along]
        rows.append(element("tr", element("th", scheme, scope="row"), *cells))
    head = element("tr", element("th", "scheme / SNR", scope="col"), *heads)
    caption = element("caption", "What arrived, and what each scheme answered")
    return element("table", caption, element("thead", head), element("tbody", *rows))


def _mark(answered: Answered | None) -> Html:
    if answered is None:
        return element("span", "missing", class_="soft")
    word, sign = ("right", "✓") if answered.correct else ("wrong", "✗")
    return element(
        "span",
        element("span", sign, class_="mark", aria_hidden="true"),
        element("span", f"{word}: ", class_="unseen"),
        answered.answer or "(nothing)",
        class_=word,
    )


def _codes(codes: np.ndarray, scale: float, what: str) -> Html:
    """Return codes as a picture, a row for each token; numbers beyond the scale have its last colour."""
    shown = codes[:MOST_ROWS, :MOST_COLUMNS]
    if shown.size < codes.size:
        what = f"{what}, the first {shown.shape[0]} x {shown.shape[1]} numbers"
    return element("img", src=_png(shown, scale), alt=what, title=what, class_="codes")


def _png(codes: np.ndarray, scale: float) -> str:
    levels = np.clip(np.nan_to_num(codes / (scale or 1.0)), -1, 1) * 100 + 100  # 0 … 200, zero at 100
    image = Image.fromarray(np.round(levels).astype(np.uint8), mode="P")
    share = np.linspace(0, 1, 101)[:, None]
    below, above = (1 - share) * LOW + share * np.array(ZERO), (1 - share) * ZERO + share * np.array(HIGH)
    image.putpalette(np.round(np.concatenate([below, above[1:]])).astype(np.uint8).tobytes())
    return _data_uri(image, "PNG", optimize=True)


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return _data_uri(image, "JPEG", quality=JPEG_QUALITY)


def _data_uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
