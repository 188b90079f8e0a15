"""Two run folders or archives, variable by variable: `tokenlink compare A B`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studies import archive, run_folder
from studies.archive import Results
from studies.axes import written


@dataclass(frozen=True)
class Difference:
    """One variable of two archives.

    Attributes
    ----------
    name : str
    num_values : int
        Values that both have, at the same coordinates.
    num_different : int
        Of these, values that are not equal bit by bit; two NaN are equal.
    largest : float
        Largest absolute difference of numbers that both sides have; NaN where there is none.
    remarks : tuple of str
        Schemes that differ, and what only one side has.
    """

    name: str
    num_values: int = 0
    num_different: int = 0
    largest: float = np.nan
    remarks: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Return whether the variable is the same on both sides."""
        return not self.num_different and not self.remarks


def load(path: Path) -> Results:
    """Read an archive, or that of a run folder; a folder without one is read from its points.

    Raises
    ------
    ValueError
        If there is neither.
    """
    file = path if path.is_file() else path / "results.h5"
    return archive.read_results(file) if file.is_file() else run_folder.collect(path, write=False)


def compare(first: Results, second: Results) -> list[Difference]:
    """Compare coordinates, then variables, in their order.

    Schemes, and values of axes, that only one side has are named; of the others, every value is compared.
    """
    return [
        *(_coordinate(name, first, second) for name in dict.fromkeys([*first.coordinates, *second.coordinates])),
        *(_variable(name, first, second) for name in dict.fromkeys([*first.variables, *second.variables])),
    ]


def _coordinate(name: str, first: Results, second: Results) -> Difference:
    if name not in first.coordinates or name not in second.coordinates:
        return _one_side(name, name in first.coordinates)
    one, other = first.coordinates[name].tolist(), second.coordinates[name].tolist()
    remarks = [
        f"only the {side} has {', '.join(map(written, missing[:4]))}{' …' * (len(missing) > 4)}"
        for side, missing in (("first", sorted(set(one) - set(other))), ("second", sorted(set(other) - set(one))))
        if missing
    ]
    if not remarks and one != other:
        remarks = ["in another order"]
    return Difference(name, len(set(one) & set(other)), remarks=tuple(remarks))


def _variable(name: str, first: Results, second: Results) -> Difference:
    if name not in first.variables or name not in second.variables:
        return _one_side(name, name in first.variables)
    one, other = _shared(name, first, second), _shared(name, second, first)
    if one is None or other is None or one.shape != other.shape:
        return Difference(name, remarks=("other dimensions",))
    if one.dtype.kind in "UO":
        different = one != other
        return Difference(name, one.size, int(different.sum()))
    one, other = one.astype(float), other.astype(float)
    different = ~((one == other) | (np.isnan(one) & np.isnan(other)))
    gap = np.abs(one - other)[different & ~np.isnan(one) & ~np.isnan(other)]
    remarks = []
    if different.any() and first.dimensions[name][:1] == ("scheme",):
        schemes = sorted({*first.schemes} & {*second.schemes})
        remarks = [f"in {', '.join(s for s, of in zip(schemes, different, strict=True) if of.any())}"]
    largest = float(gap.max()) if gap.size else (np.nan if different.any() else 0.0)
    return Difference(name, one.size, int(different.sum()), largest, tuple(remarks))


def _one_side(name: str, in_first: bool) -> Difference:
    return Difference(name, remarks=(f"only the {'first' if in_first else 'second'} has it",))


def _shared(name: str, results: Results, other: Results) -> np.ndarray | None:
    """Return a variable at the coordinates that both archives have, over all of its own and the other's dimensions."""
    dimensions = results.dimensions[name]
    if "scheme" in dimensions and "question" not in dimensions:  # the ledger's axes differ with what they hold
        values = np.stack([results.along(name, scheme) for scheme in results.schemes])
        dimensions = ("scheme", *results.axes)
    else:
        values = results.variables[name]
    for axis, dimension in enumerate(dimensions):
        if dimension not in other.coordinates:
            return None
        along, wanted = results.coordinates[dimension].tolist(), set(other.coordinates[dimension].tolist())
        index = {value: i for i, value in enumerate(along) if value in wanted}
        values = np.take(values, [index[value] for value in sorted(index)], axis=axis)
    return values
