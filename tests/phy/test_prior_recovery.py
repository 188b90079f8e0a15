import pickle

import numpy as np
import pytest

from phy import CodePrior
from phy.recovery.prior import best_terms_error, gini
from tests.mutants import attempt, generator, of_bytes
from tests.phy.links import NUM_TOKENS, SIZE, WIDTH, draw, fades_of, link_with


def test_fit_finds_mean_and_covariance():
    codes = draw(20_000, seed=1, decay=5)
    prior = CodePrior.fit(codes)
    flat = codes.reshape(-1, SIZE)
    np.testing.assert_allclose(prior.mean.ravel(), flat.mean(0))
    np.testing.assert_allclose(prior.covariance, np.cov(flat.T), atol=0.03)
    np.testing.assert_allclose(prior.basis.T @ prior.basis, np.eye(SIZE), atol=1e-9)
    np.testing.assert_allclose(prior.variances, np.var(flat @ prior.basis, axis=0)[:SIZE], rtol=0.05, atol=1e-3)


def test_covariance_is_positive_with_fewer_examples_than_numbers():
    prior = CodePrior.fit(draw(5, seed=2))
    assert np.linalg.eigvalsh(prior.covariance).min() > 1e-3


@pytest.mark.parametrize("copies", [1, 5])
def test_variances_are_those_of_codes_that_the_fit_has_not_seen(copies):
    """Sample eigenvalues are up to eight times too small here; copies are what one image's questions make of it."""
    codes = np.repeat(draw(40, seed=10, decay=6), copies, 0)
    prior, fresh = CodePrior.fit(codes), draw(20_000, seed=11, decay=6)
    measured = np.var((fresh - prior.mean).reshape(-1, SIZE) @ prior.basis, axis=0)
    assert np.mean(measured / prior.variances) == pytest.approx(1, abs=0.3)
    sample = np.var(codes.reshape(-1, SIZE) @ prior.basis, axis=0)
    assert np.mean(measured / sample) > 2


@pytest.mark.parametrize("basis", ["pca", "dictionary"])
def test_the_law_has_the_variances_of_the_covariance(basis):
    prior = CodePrior.fit(draw(200, seed=12, activity=0.2, decay=8), basis=basis)
    np.testing.assert_allclose(prior.variances, np.diag(prior.basis.T @ prior.covariance @ prior.basis))


def test_directions_without_codes_get_nearly_no_variance():
    codes = draw(500, seed=13) * np.array([1, 1, 1, 1, 0, 1, 1, 1])  # a number of each token never moves
    values = np.linalg.eigvalsh(CodePrior.fit(codes).covariance)
    assert values[:NUM_TOKENS] == pytest.approx(1e-9 * values.mean(), rel=0.5)
    assert values[NUM_TOKENS] > 0.1


def test_law_of_the_coefficients_is_found():
    rng = np.random.default_rng(3)
    z = rng.standard_normal((8000, 1, 2)) * np.where(rng.random((8000, 1, 2)) < 0.2, 1.0, 0.1)
    prior = CodePrior.fit(z)
    np.testing.assert_allclose(prior.activity, 0.2, atol=0.05)
    np.testing.assert_allclose(prior.wide, 1.0, rtol=0.2)
    np.testing.assert_allclose(prior.narrow, 0.01, rtol=0.3)


def test_a_dictionary_is_sparser_than_principal_components_where_these_have_no_say():
    codes = draw(4000, seed=4, activity=0.1)  # white: any rotation is one of principal components
    centred = (codes - codes.mean(0)).reshape(-1, SIZE)
    errors = [best_terms_error(centred @ CodePrior.fit(codes, basis=basis).basis, 4) for basis in ("pca", "dictionary")]
    assert errors[1] < 0.5 * errors[0]


def test_sparsity_measures_know_their_extremes():
    assert gini(np.eye(100)) == pytest.approx(0.99)
    assert gini(np.ones((2, 100))) == pytest.approx(0)
    assert best_terms_error([[3.0, 0.0, 4.0]], 1) == pytest.approx(9 / 25)


def test_a_prior_survives_its_file(tmp_path):
    prior = CodePrior.fit(draw(50, seed=5))
    prior.save(tmp_path / "prior.npz")
    again = CodePrior.load(tmp_path / "prior.npz")
    for name in ("mean", "covariance", "basis", "activity", "wide", "narrow"):
        np.testing.assert_array_equal(getattr(again, name), getattr(prior, name))


NAMES = ("mean", "covariance", "basis", "activity", "wide", "narrow")


def stored(path, **changes):
    """Write the file of a prior, with other arrays in place of some; None leaves one out."""
    prior = CodePrior.fit(draw(50, seed=5))
    arrays = {name: getattr(prior, name) for name in NAMES} | changes
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wide": None}, "is no prior, or is damaged: KeyError: 'wide is not a file in the archive'"),
        ({"mean": np.zeros(SIZE)}, rf"mean has shape \({SIZE},\), it needs \[num_tokens, width\]"),
        ({"mean": np.zeros((65, 64))}, r"mean has shape \(65, 64\)"),
        ({"mean": np.zeros((NUM_TOKENS, WIDTH + 1))}, "covariance has shape"),
        ({"basis": np.eye(SIZE)[:-1]}, rf"basis has shape \({SIZE - 1}, {SIZE}\), it needs \({SIZE}, {SIZE}\)"),
        ({"wide": np.full(SIZE, np.inf)}, "wide holds NaN or infinite values"),
        ({"covariance": np.full((SIZE, SIZE), np.nan)}, "covariance holds NaN"),
        ({"covariance": np.triu(np.ones((SIZE, SIZE)))}, "covariance is not symmetric"),
        ({"covariance": -np.eye(SIZE)}, "a variance in it is negative"),
        ({"basis": 2 * np.eye(SIZE)}, "the columns of basis are not of length one"),
        ({"activity": np.full(SIZE, 1.5)}, "activity has to lie between 0 and 1"),
        ({"narrow": np.full(SIZE, -1.0)}, "wide and narrow must not be negative"),
        (
            {"mean": np.array([[{"a": 1}]], dtype=object)},
            "is no prior, or is damaged: ValueError: Object arrays cannot be",
        ),
        ({"mean": np.full((NUM_TOKENS, WIDTH), "x")}, "is no prior, or is damaged: ValueError: could not convert"),
        ({"more": np.zeros(8 * 2**22, np.uint8)}, "is no prior, or is damaged: ValueError: an array in it is larger"),
    ],
)
def test_a_file_that_holds_no_prior_is_refused_by_its_name(tmp_path, changes, message):
    path = stored(tmp_path / "prior.npz", **changes)
    if "more" in changes:  # 134 MB of zeros take 130 kB in the file
        np.savez_compressed(path, mean=np.zeros(17 * 2**20))
    with pytest.raises(ValueError, match=rf"prior\.npz .*{message}"):
        CodePrior.load(path)


def test_what_is_no_archive_is_refused_by_its_name(tmp_path):
    path = stored(tmp_path / "prior.npz")
    whole = path.read_bytes()
    np.save(tmp_path / "one.npy", np.zeros(3))
    for content in (b"", b"x", whole[:-30], (tmp_path / "one.npy").read_bytes(), pickle.dumps({"mean": 1})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"prior\.npz is no prior, or is damaged"):
            CodePrior.load(path)
    with pytest.raises(FileNotFoundError, match=r"there is no prior .*nowhere\.npz"):
        CodePrior.load(tmp_path / "nowhere.npz")


def test_priors_of_all_laws_are_read_again(tmp_path):
    laws = [CodePrior.white(3, 8), CodePrior.white(1, 1), CodePrior.fit(draw(200, seed=12), basis="dictionary")]
    laws += [CodePrior.fit(codes) for codes in (np.zeros((3, 2, 2)), 1e6 * draw(3, seed=1), 1e-6 * draw(30, seed=1))]
    for index, prior in enumerate(laws):
        prior.save(tmp_path / f"{index}.npz")
        again = CodePrior.load(str(tmp_path / f"{index}.npz"))
        assert all(np.array_equal(getattr(again, name), getattr(prior, name)) for name in NAMES)


def mutate(tmp_path, count):
    """Damage the file of a prior: either it is refused by its name, or nothing that is read has changed."""
    path = stored(tmp_path / "prior.npz")
    whole, expected, rng = path.read_bytes(), CodePrior.load(path), generator(7)
    refused = 0
    for _ in range(count):
        path.write_bytes(of_bytes(whole, rng))
        prior, error = attempt(lambda: CodePrior.load(path))
        if error is None:
            assert all(np.array_equal(getattr(prior, name), getattr(expected, name)) for name in NAMES)
        else:
            assert type(error) is ValueError
            assert str(path) in str(error)
            refused += 1
    return refused


def test_a_damaged_prior_is_refused_or_what_it_was(tmp_path):
    assert mutate(tmp_path, 150) > 100


@pytest.mark.thousands
def test_thousands_of_damaged_priors_are_refused_or_what_they_were(tmp_path):
    assert mutate(tmp_path, 2000) > 1300


@pytest.mark.parametrize("facts", [{}, {"num_tx_ant": 8, "num_rx_ant": 2}, {"modulation": "iq"}, {"num_tx_ant": 5}])
@pytest.mark.parametrize("recovery", ["lmmse", "lmmse-unbiased"])
def test_prior_recovery_is_its_textbook_formula(facts, recovery):
    prior = CodePrior.fit(draw(200, seed=6, decay=8))
    link = link_with(prior, precision="double", recovery=recovery, **facts)
    codes = draw(2, seed=7, decay=8)
    out = link(codes, 10.0, [0, 1])
    transmission = link.transmission(num_tokens=NUM_TOKENS, width=WIDTH)
    fades = fades_of(link, np.array([0, 1]), NUM_TOKENS, WIDTH)
    for example in range(2):
        # the link is linear: its matrix, column by column, from what each number alone makes of the noise-free output
        columns = []
        for unit in np.eye(SIZE):
            x = transmission.map_tokens(unit.reshape(1, NUM_TOKENS, WIDTH)).numpy()[:, 0]
            y = (fades.h[:, :, example] * x).sum(1).ravel()
            columns.append(np.concatenate([y.real, y.imag]))
        a, no = np.stack(columns, 1), 0.1
        noise = np.sqrt(no) * fades.noise[:, example].ravel()
        y = a @ codes[example].ravel() + np.concatenate([noise.real, noise.imag])
        gain = prior.covariance @ a.T @ np.linalg.inv(a @ prior.covariance @ a.T + no / 2 * np.eye(len(a)))
        mean = prior.mean.ravel()
        expected, variance = mean + gain @ (y - a @ mean), np.diag(prior.covariance - gain @ a @ prior.covariance)
        if recovery == "lmmse-unbiased":
            kept = 1 - variance / np.diag(prior.covariance)  # E[c_hat | c] - mean is this times c - mean
            expected, variance = mean + (expected - mean) / kept, variance / kept
        np.testing.assert_allclose(out.codes_hat[example].numpy().ravel(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(out.error_var[example].numpy().ravel(), variance, rtol=1e-5, atol=1e-8)


def test_a_prior_helps_and_the_receiver_knows_how_much():
    prior, codes = CodePrior.fit(draw(4000, seed=8, decay=5)), draw(512, seed=9, decay=5)
    facts = {"num_tx_ant": 8, "num_rx_ant": 2, "recovery": "lmmse"}
    errors = {}
    for name, link in {"white": link_with(None, **facts), "prior": link_with(prior, **facts)}.items():
        out = link(codes, 20.0, np.arange(512))
        squares = ((out.codes_hat - codes) ** 2).numpy().mean((1, 2))
        errors[name] = squares.mean()
        if name == "prior":
            assert abs(squares.mean() - np.mean(out.error_var)) < 5 * squares.std() / np.sqrt(512)
    assert errors["prior"] < 0.5 * errors["white"]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((1, 3, 8)), "codes must have shape"),
        (np.zeros((10, 8)), "codes must have shape"),
        (np.full((3, 2, 2), np.nan), "codes hold NaN"),
        (np.zeros((2, 65, 64)), "a prior over 4160 numbers per example is too large, the limit is 4096"),
    ],
)
def test_codes_that_teach_nothing_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        CodePrior.fit(codes)


def test_a_prior_in_the_wrong_place_is_refused():
    prior = CodePrior.fit(draw(10, seed=0))
    with pytest.raises(ValueError, match="recovery='ls' makes no use of a prior"):
        link_with(prior, recovery="ls")
    with pytest.raises(ValueError, match="recovery='complex-lmmse' makes no use of a prior"):
        link_with(prior, recovery="complex-lmmse")
    with pytest.raises(ValueError, match="a prior over 4160 numbers per example is too large, the limit is 4096"):
        link_with(None, recovery="vamp")(np.zeros((1, 65, 64), np.float32))
    with pytest.raises(ValueError, match=r"the prior was fitted to codes of shape \(3, 8\), these are \(3, 9\)"):
        link_with(prior, recovery="lmmse")(np.zeros((1, 3, 9), np.float32))
    with pytest.raises(ValueError, match="basis must be one of pca, dictionary; got 'dct'"):
        CodePrior.fit(draw(10, seed=0), basis="dct")


def test_a_gaussian_prior_has_the_eigenvectors_of_its_covariance():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((12, 5))
    covariance = factor @ factor.T + 0.1 * np.eye(12)
    prior = CodePrior.gaussian(rng.standard_normal((3, 4)), covariance)
    np.testing.assert_allclose((prior.basis * prior.variances) @ prior.basis.T, covariance, atol=1e-10)
    assert np.all(np.diff(prior.variances) <= 0)
    for wrong in (covariance[:5, :5], covariance * np.nan):
        with pytest.raises(ValueError, match=r"covariance must be finite, of shape \(12, 12\)"):
            CodePrior.gaussian(np.zeros((3, 4)), wrong)
