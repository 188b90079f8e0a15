"""The page as a whole: sections in their order, style and script, and a policy that forbids every request."""

import base64
import colorsys
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.archive import Results, write_atomically
from studies.claims import Claim
from studies.page import sections
from studies.page.chart import chart
from studies.page.gallery import Gallery, collect
from studies.page.gallery_view import gallery_section
from studies.page.lines import lines_of
from studies.page.markup import Html, element, joined
from studies.tables import PROPOSAL

FILE = "report.html"
FOLDER = Path(__file__).parent
DARK_PAPER = "#14171c"  # as in style.css
ENOUGH_CONTRAST = 4.5  # of a line to the paper, as WCAG asks for text


def write(
    path: Path,
    runs: Mapping[Path, Results],
    claims: Sequence[Claim],
    *,
    num_cases: int,
    data: Path | None = None,
    on_problem: Callable[[str], Any] = lambda problem: None,
) -> Path:
    """Write the page.

    Parameters
    ----------
    path : Path
        File to write.
    runs : mapping
        Results by run folder, one of each study.
    claims : sequence of Claim
    num_cases : int
        Questions in the gallery, which is that of the first run with the proposal along SNR; 0 leaves it out, and
        loads no framework.
    data : Path, optional
        Folder of that run's data set, if it is another than the run says.
    on_problem : callable
        Called with a sentence if there can be no gallery.

    Returns
    -------
    Path
    """
    gallery = None
    if num_cases:
        along = [(folder, results) for folder, results in runs.items() if _has_proposal(results)]
        try:
            if not along:
                raise ValueError(f"none of the runs has {PROPOSAL} along snr_db")
            gallery = collect(*along[0], num_cases, data)
        except (ValueError, OSError, ImportError) as error:
            on_problem(f"the page is without a gallery: {error}")
    write_atomically(path, page(list(runs.values()), claims, gallery, wanted=num_cases > 0).encode())
    return path


def page(runs: Sequence[Results], claims: Sequence[Claim], gallery: Gallery | None, *, wanted: bool = False) -> str:
    """Return the page.

    Parameters
    ----------
    runs : sequence of Results
    claims : sequence of Claim
    gallery : Gallery, optional
    wanted : bool
        Whether the page says that there could be no gallery.
    """
    seeds = next((results for results in runs if "seed" in results.axes), None)
    parts: dict[str, tuple[str, Html]] = {}
    of = [f" ({_study(results)})" if len(runs) > 1 else "" for results in runs]
    for i, results in enumerate(runs, 1):
        drawn = chart(results, f"chart-{i}", f"figure-{i}")
        parts[f"figure-{i}"] = f"Accuracy{of[i - 1]}", joined([_facts(results), drawn])
    if gallery is not None:
        parts["gallery"] = "From question to answer", gallery_section(gallery)
    elif wanted:
        missing = "Data set, models or link of the run were not there when this page was written: no gallery."
        parts["gallery"] = "From question to answer", element("p", missing)
    parts["claims"] = "The paper's claims", sections.claims_section(claims)
    for i, results in enumerate(runs, 1):
        parts[f"tables-{i}"] = f"Tables{of[i - 1]}", sections.tables_section(results, seeds)
    for i, results in enumerate(runs, 1):
        origin = joined([sections.schemes_section(results), sections.origin_section(results)])
        parts[f"origin-{i}"] = f"Configuration and origin{of[i - 1]}", origin
    return _document(
        f"TokenLink: {', '.join(map(_study, runs))}", parts, [line for run in runs for line in lines_of(run)]
    )


def _document(title: str, parts: Mapping[str, tuple[str, Html]], lines: Sequence[Any]) -> str:
    style = (FOLDER / "style.css").read_text(encoding="utf-8") + _colours({line.style.colour for line in lines})
    script = (FOLDER / "script.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    links = [element("li", element("a", heading, href=f"#{name}")) for name, (heading, _) in parts.items()]
    body = [
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", element("h1", title), element("nav", element("ul", *links), aria_label="Sections")),
        element(
            "main",
            *(
                element("section", element("h2", heading, id=name), content, aria_labelledby=name)
                for name, (heading, content) in parts.items()
            ),
            id="content",
            tabindex="-1",
        ),
        element("script", Html(script)),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    ]
    return f"<!doctype html>\n{element('html', element('head', *head), element('body', *body), lang='en')}\n"


def _colours(colours: set[str]) -> str:
    """Return a class for each colour of a line, lighter where the page is dark."""
    light = "".join(f".c{colour[1:]}{{color:{colour}}}" for colour in sorted(colours))
    dark = "".join(f".c{colour[1:]}{{color:{lightened(colour)}}}" for colour in sorted(colours))
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{{dark}}}\n"


def lightened(colour: str) -> str:
    """Return a colour of the same hue for the dark page: what is dark turns light, and contrast is enough."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    if lightness < 0.5:
        colour = _hls(hue, lightness := 1 - lightness, saturation)
    while contrast(colour, DARK_PAPER) < ENOUGH_CONTRAST:
        colour = _hls(hue, lightness := min(1.0, lightness + 0.01), saturation)
    return colour


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, as WCAG 2 defines it."""
    luminances = []
    for colour in (first, second):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _rgb(colour)]
        luminances.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def _hls(hue: float, lightness: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, saturation))


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _has_proposal(results: Results) -> bool:
    return PROPOSAL in results.schemes and "snr_db" in results.axes


def _study(results: Results) -> str:
    return str(results.attributes.get("study", "a study"))


def _facts(results: Results) -> Html:
    link = {key: sections.setting(results, "link", key) for key in ("channel", "num_tx_ant", "num_rx_ant")}
    antennas = None if "antennas" in results.axes else f"{link['num_tx_ant']}x{link['num_rx_ant']} antennas"
    channel = None if "channel" in results.axes else f"channel {link['channel']}"
    missing = int(results.attributes.get("num_missing_points", 0))
    facts = [
        channel,
        antennas,
        f"{len(results.coordinates['question'])} questions",
        f"{missing} points missing so far" if missing else None,
        f"commit {str(results.attributes.get('git_commit', 'unknown'))[:12]}",
    ]
    return element("p", ", ".join(fact for fact in facts if fact), class_="soft")
