"""Every write, fsync, rename and open of a run fails once: nothing is lost, and the next run is as if nothing had."""

import errno
import io
import itertools
import os

import pytest

from studies import accuracy_vs_snr, provenance, run_folder
from studies.jobs import StudyError

OPERATIONS = ("write", "fsync", "replace", "unlink", "mkdir", "folder", "open", "read")
MODES = ("once", "from then on", "killed")
QUICK = (("write", "killed"), ("replace", "once"), ("fsync", "from then on"))  # the others are slow tests


class Killed(BaseException):
    """Nothing runs any more, no cleaning up either."""


class Faults:
    """The file system below a folder, of which the n-th operation of a kind fails.

    Parameters
    ----------
    monkeypatch
    folder : Path
    operation : str
    number : int
    mode : {"once", "from then on", "killed"}
        A disk that has room again, one that stays full, and a process that is killed in the middle of the operation.
    """

    def __init__(self, monkeypatch, folder, operation, number, mode):
        self.folder, self.operation, self.left, self.mode = str(folder), operation, number, mode
        self.reached = False
        real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir", "open")}
        real_open = io.open

        def guarded(operation, function, *, always_ours=False):
            def call(path, *arguments, **options):
                if always_ours or str(path).startswith(self.folder):
                    self.may_fail(operation, None if always_ours else path)
                return function(path, *arguments, **options)

            return call

        def open_file(path, mode="r", *arguments, **options):
            if not str(path).startswith(self.folder):
                return real_open(path, mode, *arguments, **options)
            self.may_fail("read" if mode in ("r", "rb") else "open", path)
            return File(real_open(path, mode, *arguments, **options), self)

        monkeypatch.setattr(io, "open", open_file)
        monkeypatch.setattr(os, "fsync", guarded("fsync", real["fsync"], always_ours=True))
        for name in ("replace", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, guarded(name, real[name]))
        monkeypatch.setattr(os, "open", guarded("folder", real["open"]))

    def may_fail(self, operation, path):
        if self.reached and self.mode == "killed":
            raise Killed
        if operation != self.operation or (self.mode == "once" and self.reached):
            return
        self.left -= 1
        if self.left < 0:
            self.reached = True
            if self.mode == "killed":
                raise Killed
            code = errno.EIO if operation == "read" else errno.ENOSPC
            raise OSError(code, os.strerror(code), *([] if path is None else [str(path)]))


class File:
    """A file of which a write may stop half-way."""

    def __init__(self, file, faults):
        self._file, self._faults = file, faults

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def write(self, content):
        try:
            self._faults.may_fail("write", None)
        except BaseException:
            self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)


@pytest.fixture
def small(fakes, config, stand_in):
    """A study of two curves and four files of points and codes."""
    stand_in(provenance, "git_state", lambda: {"git_commit": "unknown", "git_dirty": 1})  # which takes most of the time
    return config.updated(
        {"num_questions": 6, "batch_size": 3, "snr_db": [0.0], "schemes": ["machine-tokens", "raw-image"]}
    )


def run(config, folder):
    return accuracy_vs_snr.main(config, out=folder)


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
        for case in itertools.product(OPERATIONS, MODES)
    ],
)
def test_a_run_survives_whatever_fails_at_any_moment(small, tmp_path, monkeypatch, operation, mode):
    run(small, tmp_path / "whole")
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in ("results.h5", "plan.json", "config.yaml")}
    for number in itertools.count():
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            faults = Faults(patch, folder, operation, number, mode)
            try:
                run(small, folder)
            except OSError as error:
                assert str(error.filename).startswith(str(folder))  # noqa: PT017 -- or it goes on
            except (StudyError, Killed):
                pass
            except ValueError as error:
                assert "no point" in str(error) or "cannot be read" in str(error)  # noqa: PT017
        finished, failed, _ = run(small, folder)
        assert not failed
        assert finished.attributes["num_missing_points"] == 0
        for name, content in expected.items():
            assert (folder / name).read_bytes() == content
        assert not [problem for problem in run_folder.check(folder).problems if "events.jsonl, line" not in problem]
        if not faults.reached:
            break
    assert number >= {"unlink": 1, "read": 1, "mkdir": 3}.get(operation, 7)
