import pytest

from studies import doctor

FITTING = {**dict.fromkeys(doctor.PACKAGES, "1.0"), "sionna": "1.2.2", "tensorflow": "2.21.0", "h5py": "3.14.0"}


@pytest.fixture
def machine(monkeypatch):
    """Pretend that packages are installed; returns what clashes."""

    def call(*names, **versions):
        monkeypatch.setattr(doctor, "package_versions", lambda: {**FITTING, **versions})
        monkeypatch.setattr(doctor, "_installed", lambda: {"tensorflow", "torch", *names})
        return [(finding.subject, finding.text) for finding in doctor._clashes() if not finding.fine]

    return call


def test_what_fits_is_not_complained_about(machine):
    assert not machine()
    assert not machine("nvidia-cudnn-cu12", "nvidia-cublas-cu12")
    assert not machine(tensorflow="2.20.0", h5py="3.15.1")


@pytest.mark.parametrize(
    ("names", "versions", "subject", "words"),
    [
        ([], {"sionna": "2.0.1"}, "sionna", "install sionna==1.2.2"),
        ([], {"h5py": "3.15.0"}, "h5py", "install 'h5py<3.15'"),
        (["tensorflow-cpu"], {}, "tensorflow-cpu", "uninstall both, install one"),
        (["nvidia-cudnn-cu12", "nvidia-cudnn-cu13"], {}, "cuda libraries", "nvidia-cudnn for CUDA 12 and 13"),
    ],
)
def test_known_clashes_are_named_with_the_way_out(machine, names, versions, subject, words):
    ((found, text),) = machine(*names, **versions)
    assert found == subject
    assert words in text


def test_it_tries_what_shares_memory():
    shared, copied = doctor._memory()
    assert shared.fine
    assert {"float32", "float64", "complex64", "complex128", "bfloat16", "int64"} <= set(shared.text.split(", "))
    assert "bool" in copied.text.split(", ")


def test_it_counts_the_threads_of_both_frameworks(monkeypatch):
    def threads():
        return next(finding for finding in doctor._frameworks() if finding.subject == "threads")

    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    monkeypatch.setattr(doctor, "num_cores", lambda: 10**6)
    assert threads().fine
    monkeypatch.setattr(doctor, "num_cores", lambda: 0)  # whatever is set is more
    assert not threads().fine
    assert "too many for torch and tensorflow: set OMP_NUM_THREADS and TF_NUM_INTRAOP_THREADS" in threads().text


def test_a_library_that_does_not_load_is_reported_beside_everything_else(monkeypatch):
    def broken():
        raise ImportError("libcudart.so.12: cannot open shared object file")
        yield

    monkeypatch.setattr(doctor, "_frameworks", broken)
    found = doctor.diagnose()
    assert found[0].subject == "python"
    assert not found[-1].fine
    assert found[-1].text == "ImportError: libcudart.so.12: cannot open shared object file"
