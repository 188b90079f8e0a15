r"""Any figure of matplotlib as source of TikZ, for `\input` in LaTeX: the same strokes and areas, and words as words.

Charts have source of pgfplots, which is easier to change (`pgfplots.py`); this is for figures that are no charts. It is
written by drawing the figure once more, onto a renderer that writes. No LaTeX has to be there for that.
"""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from studies import drawing
from studies.archive import write_atomically
from studies.layout import LINE_HEIGHT
from studies.pgfplots import escaped

POINTS = 72  # of an inch: lengths in the source are matplotlib's points, TeX's "bp"


def save(figure: Figure, folder: FilePath, name: str) -> list[FilePath]:
    """Write a figure as PNG, PDF and PGF, and return the paths."""
    paths = drawing.save(figure, folder, name)
    paths.append(folder / f"{name}.pgf")
    write_atomically(paths[-1], source(figure).encode())
    return paths


def source(figure: Figure) -> str:
    """Return a figure as a `tikzpicture` of its size, under the settings of matplotlib that it was made with."""
    FigureCanvasAgg(figure).draw()  # places what the layout places
    width, height = figure.get_size_inches()
    before = figure.dpi
    figure.dpi = POINTS
    try:
        renderer = _Renderer(width * POINTS, height * POINTS)
        engine = figure.get_layout_engine()
        figure.set_layout_engine("none")
        figure.draw(renderer)
        figure.set_layout_engine(engine)
    finally:
        figure.dpi = before
    box = rf"\path[use as bounding box] (0,0) rectangle ({_number(width * POINTS)},{_number(height * POINTS)});"
    return "\n".join(
        [r"\begin{tikzpicture}[x=1bp, y=1bp, line join=round]", box, *renderer.commands, r"\end{tikzpicture}%", ""]
    )


class _Renderer(RendererBase):
    """Writes a command of TikZ for everything that is drawn.

    Parameters
    ----------
    width, height : float
        Of the figure [points].
    """

    def __init__(self, width: float, height: float):
        super().__init__()
        self._size = (width, height)
        self._metrics = FigureCanvasAgg(Figure(dpi=POINTS)).get_renderer()
        self.commands: list[str] = []

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self._size

    def points_to_pixels(self, points: Any) -> Any:
        return points

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        return self._metrics.get_text_width_height_descent(s, prop, ismath)

    def draw_path(self, gc: GraphicsContextBase, path: Path, transform: Any, rgbFace: Any = None) -> None:
        options, path = list(_options(gc, rgbFace)), self._cut(path.transformed(transform), rgbFace is not None)
        steps = "".join(_steps(path))
        if not options or not steps:
            return
        command = rf"\path[{', '.join(options)}] {steps};"
        self.commands.append(_clipped(command, gc.get_clip_rectangle()))

    def _cut(self, path: Path, filled: bool) -> Path:
        """Cut off what lies far outside of the figure: TeX knows no lengths above six metres."""
        width, height = self._size
        ends = np.asarray(path.vertices, dtype=float)
        ends = ends[np.isfinite(ends).all(-1)]
        if not len(ends) or ((ends > -np.array(self._size)) & (ends < 2 * np.array(self._size))).all():
            return path
        if filled:
            return path.clip_to_bbox(Bbox.from_extents(-width, -height, 2 * width, 2 * height))
        return path.cleaned(clip=(-width, -height, 2 * width, 2 * height), simplify=False)

    def draw_image(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("a figure with pictures in it has no source: save it as PDF")

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        words = s if ismath else r"\ " * s.startswith(" ") + escaped(s)  # a space at the start is a distance
        side = {"center": 0.5, "right": 1.0}.get(mtext.get_horizontalalignment() if mtext else "left", 0.0)
        along = (
            side * self._metrics.get_text_width_height_descent(s, prop, ismath)[0]
        )  # LaTeX's letters have other widths
        x, y = x + along * np.cos(np.radians(angle)), y + along * np.sin(np.radians(angle))
        size = prop.get_size_in_points()
        font = rf"\fontsize{{{size:g}}}{{{LINE_HEIGHT * size:g}}}\selectfont" + r"\bfseries" * _is_bold(prop)
        anchor = {0.0: "base west", 0.5: "base", 1.0: "base east"}[side]
        options = f"anchor={anchor}, inner sep=0, rotate={angle:g}, font={font}, text={_colour(gc.get_rgb())}"
        self.commands.append(rf"\node[{options}] at ({_number(x)},{_number(y)}) {{{words}}};")

    def flipy(self) -> bool:
        return False


def _options(gc: GraphicsContextBase, face: Any) -> Iterator[str]:
    """Return how a path is filled and drawn; nothing if it cannot be seen."""
    width = gc.get_linewidth()
    if face is not None and (len(face) < 4 or face[3] > 0):
        opacity = gc.get_alpha() if gc.get_forced_alpha() or len(face) < 4 else face[3]
        yield f"fill={_colour(face)}" + f", fill opacity={opacity:g}" * bool(opacity < 1)
    if width > 0 and gc.get_rgb()[3] > 0:
        opacity = gc.get_rgb()[3]
        yield f"draw={_colour(gc.get_rgb())}, line width={width:g}bp" + f", draw opacity={opacity:g}" * bool(
            opacity < 1
        )
        offset, dashes = gc.get_dashes()
        if dashes is not None:
            lengths = " ".join(
                f"{('on', 'off')[number % 2]} {length:g}bp" for number, length in enumerate(np.atleast_1d(dashes))
            )
            yield f"dash pattern={lengths}, dash phase={offset:g}bp"


def _steps(path: Path) -> Iterator[str]:
    """Return the pieces of a path; quadratic curves as the cubic ones that they are."""
    last = np.zeros(2)
    for points, step in path.iter_segments(simplify=False):
        ends = points.reshape(-1, 2)
        if step == Path.MOVETO:
            yield f"({_point(ends[0])})"
        elif step == Path.LINETO:
            yield f"--({_point(ends[0])})"
        elif step == Path.CURVE3:
            first, second = last + 2 / 3 * (ends[0] - last), ends[1] + 2 / 3 * (ends[0] - ends[1])
            yield f"..controls({_point(first)})and({_point(second)})..({_point(ends[1])})"
        elif step == Path.CURVE4:
            yield f"..controls({_point(ends[0])})and({_point(ends[1])})..({_point(ends[2])})"
        elif step == Path.CLOSEPOLY:
            yield "--cycle"
        last = ends[-1] if step != Path.CLOSEPOLY else last


def _clipped(command: str, box: Bbox | None) -> str:
    if box is None:
        return command
    corners = f"({_number(box.x0)},{_number(box.y0)}) rectangle ({_number(box.x1)},{_number(box.y1)})"
    return rf"\begin{{scope}}\clip {corners}; {command}\end{{scope}}"


def _is_bold(prop: Any) -> bool:
    return str(prop.get_weight()) in ("bold", "heavy", "black", "semibold", "demibold")


def _colour(colour: Any) -> str:
    return "{{rgb,1:red,{:.4g};green,{:.4g};blue,{:.4g}}}".format(*colour[:3])


def _point(point: np.ndarray) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
