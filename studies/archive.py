"""Files of a run: atomic, content-addressed points, and `results.h5`, rebuilt from them at any time.

A point is one HDF5 file, named by the hash of everything that determines it. It is written in one `os.replace` after an
fsync: a killed run leaves either the whole point or nothing. It is done when its SHA-256 agrees, it opens, the hash of
its key is its name, and it says that it is complete.

The first 512 bytes of every file, which readers of HDF5 skip, hold the SHA-256 of all others. It is compared before
anything else: HDF5 may not only fail on damaged bytes, it may never come back.
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from studies.axes import AXES, AxisValue
from studies.config import content_hash
from studies.schemes.scheme import LEDGER
from studies.statistics import wilson_interval

POINT_SCHEMA = "tokenlink-point"
RESULTS_SCHEMA = "tokenlink-results"
POINT_VERSION = RESULTS_VERSION = 2  # files of version 1 have no SHA-256; they are read
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEADER_BYTES = 512  # HDF5's user block
MISSING = 255  # in `correct`: this point has not been computed yet
QUESTION_COLUMNS = ("question", "image_index", "family", "realisation")  # the same in every point of a run

MEANINGS = {
    "scheme": "what is sent, and who answers",
    "question": "number of the question in the data set's split",
    "correct": f"1: answered right, 0: not, {MISSING}: not computed yet",
    "confidence": "probability that the answering model gives to its answer; NaN where it does not say",
    "peak": "largest power of the question's waveform on an antenna, over the mean of all questions; NaN without one",
    "realisation": "number of the fade and noise draw each question met, the same for every scheme and SNR",
    "image_index": "number of the image each question is about",
    "family": "kind of question",
    "accuracy": "share of right answers",
    "accuracy_low": "lower end of the 95 % Wilson interval",
    "accuracy_high": "upper end of the 95 % Wilson interval",
    "code_nmse": "E|codes_hat - codes|^2 / E|codes|^2 of the real numbers that arrive; NaN where none do",
    "code_nmse_declared": "code_nmse as the link declares it, from its error variances; NaN where it declares none",
    "psnr": "mean peak signal-to-noise ratio of the images that cross the link [dB]; NaN where none do",
    "ssim": "mean structural similarity of the images that cross the link; NaN where none do",
    "loss_rate": "share of declared losses; NaN for schemes that cannot declare one",
    "undetected_rate": "share of payloads that were taken for right and are not what was sent; NaN where loss_rate is",
    "resource_elements": "resource elements of the slots one question occupies, everything included; NaN where nothing "
    "crosses the link, as in all that follows",
    "data_res": "of these, elements that carry codes: complex channel uses, two real ones each",
    "pilot_res": "of these, elements of pilots",
    "guard_res": "of these, guard carriers and the null at the carrier frequency",
    "idle_res": "of these, elements that another user may take",
    "energy": "energy per question, pilots included, in units of a data symbol's mean energy",
    "duration_s": "time on the air per question, of whole slots [s]",
    "active_s": "of this, OFDM symbols with data or pilots [s]",
    "mini_slots": "mini-slots of two OFDM symbols that hold these symbols",
    "span_s": "time from the first of these symbols to the end of the last [s]",
    "num_transmissions": "mean transmissions per question, all of them charged above",
    "payload_bytes": "mean size of a payload; NaN for analog schemes",
    "payload_bits": "information bits per question; NaN for analog schemes",
    "bits_per_symbol": "mean coded bits of a QAM symbol; NaN for analog schemes",
    "code_rate": "mean code rate, CRC included; NaN for analog schemes",
    "peak_db": "largest power of a question's waveform on an antenna, over the mean of all questions; one in a hundred "
    "questions exceeds it [dB]",
    "prompt_bits": "bits per question of the vague description over the downlink; 0 where the sensor is told nothing, "
    "NaN where it is told the question",
    **{name: axis.meaning for name, axis in AXES.items()},
}
COSTS = ("resource_elements", "data_res", "pilot_res", "duration_s")  # of the ledger, in points of every version
SCALARS = ("code_nmse", "code_nmse_declared", "loss_rate", "undetected_rate", "psnr", "ssim")  # per point


@dataclass(frozen=True)
class Point:
    """One file of `points/` or `codes/`: what determines it, and what came out; `hashed` unless of an older version."""

    key: dict[str, Any]
    arrays: dict[str, np.ndarray]
    scalars: dict[str, float]
    hashed: bool = True


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that after any crash it is there as a whole, or as it was before.

    A file that holds the content already is left alone: nothing has to be writable where nothing changes.

    Raises
    ------
    OSError
        Naming `path`, whichever step failed.
    """
    if _holds(path, content):
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name itself
        finally:
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def remove_leftovers(folder: Path, older_than_s: float = 3600) -> None:
    """Delete what killed runs were writing; younger files may belong to another shard that is still at work."""
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # renamed by its writer in this moment
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()


def point_path(folder: Path, key: Mapping[str, Any]) -> Path:
    """Where the point determined by `key` is kept."""
    return folder / f"{content_hash(key)}.h5"


def write_point(
    folder: Path, key: Mapping[str, Any], arrays: Mapping[str, Any], scalars: Mapping[str, float] | None = None
) -> Path:
    """Write a complete point and return its path.

    Parameters
    ----------
    folder : where points are kept
    key : JSON content that determines the point; its hash is the file's name
    arrays : by name: numbers, or lists of strings
    scalars : by name
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=HEADER_BYTES) as file:
        for name, array in arrays.items():
            _write_array(file, name, np.asarray(array))
        for name, scalar in (scalars or {}).items():
            file.create_dataset(name, data=np.float64(scalar))
        file.attrs["schema"] = POINT_SCHEMA
        file.attrs["schema_version"] = POINT_VERSION
        file.attrs["key_json"] = json.dumps(key, sort_keys=True, allow_nan=False)
        file.attrs["complete"] = np.uint8(1)
    path = point_path(folder, key)
    write_atomically(path, _sealed(buffer))
    return path


def _sealed(buffer: io.BytesIO) -> bytes:
    """Return the content of an HDF5 file with its SHA-256 in the user block."""
    content = buffer.getvalue()[HEADER_BYTES:]
    return _header(content) + content


def _header(content: bytes) -> bytes:
    return f"tokenlink sha256 {hashlib.sha256(content).hexdigest()}\n".encode().ljust(HEADER_BYTES, b"\0")


def _is_sealed(content: bytes) -> bool:
    """Whether a file has a SHA-256, which has to agree; files of version 1 start with HDF5's signature."""
    if content.startswith(HDF5_SIGNATURE):
        return False
    if content[:HEADER_BYTES] != _header(content[HEADER_BYTES:]):
        raise ValueError("its content is not what its SHA-256 says")
    return True


def read_point(path: Path) -> Point:
    """Read a point that is done.

    Raises
    ------
    ValueError
        If it is not: it does not open, is not complete, or its content is not what its name says.
    """
    try:
        content = path.read_bytes()  # no lock: any number of workers may read
        hashed = _is_sealed(content)
        with h5py.File(io.BytesIO(content), "r") as file:
            version = POINT_VERSION if hashed else 1
            if file.attrs.get("schema") != POINT_SCHEMA or file.attrs.get("schema_version") != version:
                raise ValueError(f"its schema is not {POINT_SCHEMA} version {version}")
            if file.attrs.get("complete") != 1:
                raise ValueError("it is not complete")
            key = json.loads(str(file.attrs["key_json"]))
            if content_hash(key) != path.stem:
                raise ValueError("its name is not the hash of its key")
            found = {name: _read_array(dataset) for name, dataset in file.items()}
        arrays = {name: value for name, value in found.items() if value.ndim}
        scalars = {name: float(value) for name, value in found.items() if not value.ndim}
    except Exception as error:  # h5py raises whatever damage leads it to
        raise ValueError(f"point {path.name} cannot be used: {error}; the next run computes it again") from error
    return Point(key, arrays, scalars, hashed)


def is_done(folder: Path, key: Mapping[str, Any], on_problem: Callable[[str], Any] = lambda problem: None) -> bool:
    """Whether the point determined by `key` is there and can be used; `on_problem` hears why one cannot."""
    path = point_path(folder, key)
    if not path.exists():
        return False
    try:
        read_point(path)
    except ValueError as error:
        on_problem(str(error))
        return False
    return True


def build_results(
    points: Sequence[tuple[Mapping[str, Any], Point | None]],
    schemes: Sequence[str],
    axes: Mapping[str, Sequence[AxisValue]],
    attributes: Mapping[str, str | int | float],
) -> bytes:
    """Return the content of `results.h5`, made from points.

    Parameters
    ----------
    points : each with its coordinates (`scheme` and some of `axes`); a coordinate left out means "the same along that
        axis". A point that is None has not been computed yet: it is `MISSING` in `correct`, which xarray takes for NaN,
        and NaN elsewhere.
    schemes, axes : the coordinates in order
    attributes : of the file

    Raises
    ------
    ValueError
        If no point is done, or points disagree about the questions, or a scheme's ledger changes along an axis.
    """
    done = [point for _, point in points if point is not None]
    if not done:
        raise ValueError("no point is done yet; run the study first")
    questions = {name: done[0].arrays[name] for name in QUESTION_COLUMNS}
    for coordinates, point in points:
        for name, values in questions.items():
            if point is not None and not np.array_equal(point.arrays[name], values):
                raise ValueError(
                    f"points disagree about {name!r}, the first and that of {dict(coordinates)}; they belong to "
                    "different runs"
                )

    shape = (len(schemes), *(len(values) for values in axes.values()))
    correct = np.full((*shape, len(questions["question"])), MISSING, dtype=np.uint8)
    confidence, peak = (np.full(correct.shape, np.nan, dtype=np.float32) for _ in range(2))
    scalars = {name: np.full(shape, np.nan) for name in SCALARS}
    ledger = {name: np.full(shape, np.nan) for name in LEDGER}
    scheme_at = {scheme: i for i, scheme in enumerate(schemes)}
    axes_at = {axis: {value: i for i, value in enumerate(along)} for axis, along in axes.items()}
    for coordinates, point in points:
        if point is None:
            continue
        index = (
            scheme_at[str(coordinates["scheme"])],
            *(axes_at[axis][coordinates[axis]] if axis in coordinates else slice(None) for axis in axes),
        )
        correct[index] = point.arrays["correct"]
        confidence[index] = point.arrays.get("confidence", np.nan)  # older points do not have it
        peak[index] = point.arrays.get("peak", np.nan)
        for name, values in scalars.items():
            values[index] = point.scalars.get(name, np.nan)  # older points do not have it
        for name, values in ledger.items():
            values[index] = point.scalars.get(name, np.nan)  # older points lack some

    num_questions = np.where((correct == MISSING).any(-1), 0, correct.shape[-1])
    num_correct = np.where(num_questions > 0, np.where(correct == MISSING, 0, correct).sum(-1), 0)
    low, high = wilson_interval(num_correct, num_questions)
    accuracy = np.divide(num_correct, num_questions, out=np.full(shape, np.nan), where=num_questions > 0)

    over = ("scheme", *axes)
    ledger_over, ledger = _without_constant_axes(over, ledger)
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "correct": ((*over, "question"), correct),
        "confidence": ((*over, "question"), confidence),
        "peak": ((*over, "question"), peak),
        "accuracy": (over, accuracy),
        "accuracy_low": (over, low),
        "accuracy_high": (over, high),
        **{name: (over, values) for name, values in scalars.items()},
        **{name: (ledger_over, values) for name, values in ledger.items()},
        **{name: (("question",), questions[name]) for name in QUESTION_COLUMNS if name != "question"},
    }
    coordinates = {"scheme": np.asarray(schemes), **{axis: np.asarray(values) for axis, values in axes.items()}}
    coordinates["question"] = questions["question"]

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=HEADER_BYTES) as file:
        for name, values in coordinates.items():
            _write_array(file, name, values).make_scale(name)
        for name, (dimensions, values) in variables.items():
            dataset = _write_array(file, name, values)
            for axis, dimension in enumerate(dimensions):
                dataset.dims[axis].attach_scale(file[dimension])
        for name, dataset in file.items():
            if name in MEANINGS:
                dataset.attrs["long_name"] = MEANINGS[name]
        file["correct"].attrs["_FillValue"] = np.uint8(MISSING)  # xarray masks it
        for name, value in attributes.items():
            file.attrs[name] = value
        file.attrs["schema"] = RESULTS_SCHEMA
        file.attrs["schema_version"] = RESULTS_VERSION
        file.attrs["num_missing_points"] = len(points) - len(done)
        _add_nexus_view(file, over)
    return _sealed(buffer)


def _add_nexus_view(file: h5py.File, axes: Sequence[str]) -> None:
    """Let viewers of NeXus files open with accuracy over its axes: a group of links, which holds no data of its own.

    Source: NeXus: A common data format, definitions of NXroot, NXentry and NXdata.
    """
    file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
    entry = file.create_group("entry")
    entry.attrs["NX_class"], entry.attrs["default"] = "NXentry", "accuracy"
    view = entry.create_group("accuracy")
    view.attrs["NX_class"], view.attrs["signal"] = "NXdata", "accuracy"
    view.attrs.create("axes", list(axes), dtype=h5py.string_dtype())
    for name in ("accuracy", *axes):
        view[name] = h5py.SoftLink(f"/{name}")


def _without_constant_axes(
    over: tuple[str, ...], variables: dict[str, np.ndarray]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Drop the axes, behind the first, along which none of the variables changes; NaN is no change."""
    for axis in over[:0:-1]:
        index = over.index(axis)
        ends = {name: (np.fmin.reduce(v, axis=index), np.fmax.reduce(v, axis=index)) for name, v in variables.items()}
        if all(np.array_equal(low, high, equal_nan=True) for low, high in ends.values()):
            over = tuple(name for name in over if name != axis)
            variables = {name: low for name, (low, _) in ends.items()}
    return over, variables


@dataclass(frozen=True)
class Results:
    """`results.h5` in memory: coordinates, variables, attributes, and the variables' dimensions, by name."""

    coordinates: dict[str, np.ndarray]
    variables: dict[str, np.ndarray]
    attributes: dict[str, Any]
    dimensions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, variable: str, scheme: str) -> np.ndarray:
        """Return a variable of one scheme: its first axis taken at that scheme."""
        return self.variables[variable][list(self.coordinates["scheme"]).index(scheme)]

    @property
    def axes(self) -> dict[str, np.ndarray]:
        """What the study varied, in the order of the variables' dimensions, and its values."""
        names = self.dimensions.get("accuracy", tuple(self.coordinates))
        return {name: self.coordinates[name] for name in names if name not in ("scheme", "question")}

    def along(self, variable: str, scheme: str) -> np.ndarray:
        """Return a variable of one scheme over all axes, whether they change it or not: [*axes]."""
        values = self.of(variable, scheme)
        dimensions = self.dimensions.get(variable, ("scheme", *self.axes))[1 : 1 + values.ndim]
        shape = [len(along) if axis in dimensions else 1 for axis, along in self.axes.items()]
        return np.broadcast_to(values.reshape(shape), [len(along) for along in self.axes.values()])

    def kept(self, variable: str, scheme: str) -> np.ndarray:
        """Return a variable as `along` does; NaN where the archive is of before it was kept."""
        if variable in self.variables:
            return self.along(variable, scheme)
        return np.full([len(along) for along in self.axes.values()], np.nan)

    def content_hash(self) -> str:
        """Return the SHA-256 of everything in it."""
        digest = hashlib.sha256(json.dumps([self.attributes, self.dimensions], sort_keys=True, default=str).encode())
        for name, array in sorted({**self.coordinates, **self.variables}.items()):
            text = array.dtype.kind == "U"
            values = json.dumps(array.tolist()).encode() if text else np.ascontiguousarray(array).tobytes()
            kind = "text" if text else array.dtype.str
            digest.update(f"{name}\0{kind}\0{array.shape}\0{len(values)}\0".encode() + values)
        return digest.hexdigest()

    @property
    def schemes(self) -> list[str]:
        """The schemes, in the order of the figure's legend."""
        return [str(name) for name in self.coordinates["scheme"]]


def read_results(path: Path) -> Results:
    """Read `results.h5`.

    Raises
    ------
    ValueError
        If it is something else, or damaged, or of another version.
    FileNotFoundError
        If it is not there.
    """
    try:
        return parse_results(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}. `tokenlink plot` rebuilds it from the points.") from error


def parse_results(content: bytes) -> Results:
    """Read the content of a `results.h5`; raises ValueError as `read_results` does."""
    try:
        expected = RESULTS_SCHEMA, RESULTS_VERSION if _is_sealed(content) else 1
        with h5py.File(io.BytesIO(content), "r") as file:
            results = _results_of(file)
        schema = results.attributes.get("schema"), results.attributes.get("schema_version")
        if schema != expected:
            raise ValueError(f"it stores {schema}, this version reads {expected}")
    except Exception as error:  # h5py raises whatever damage leads it to
        raise ValueError(str(error)) from error
    return results


def _results_of(file: h5py.File) -> Results:
    datasets = {name: dataset for name, dataset in file.items() if isinstance(dataset, h5py.Dataset)}
    scales = {name for name, dataset in datasets.items() if dataset.is_scale}
    arrays = {name: _read_array(dataset) for name, dataset in datasets.items()}
    return Results(
        {name: value for name, value in arrays.items() if name in scales},
        {name: value for name, value in arrays.items() if name not in scales},
        {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()},
        {
            name: tuple(str(dim[0].name).lstrip("/") for dim in dataset.dims)
            for name, dataset in datasets.items()
            if not dataset.is_scale
        },
    )


def _write_array(file: h5py.File, name: str, array: np.ndarray) -> h5py.Dataset:
    if array.dtype.kind in "UO":
        return file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
    # fletcher32: a flipped bit becomes a read error instead of a wrong number
    return file.create_dataset(name, data=array, compression="gzip", shuffle=True, fletcher32=True)


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(dataset.dtype):
        return np.asarray(dataset.asstr()[()], dtype=str)
    return np.asarray(dataset[()])
