"""Codes that stand in place of one's own: what they keep of them, and what not."""

from types import SimpleNamespace

import numpy as np
import pytest

from studies.schemes.carriers import analog


@pytest.fixture
def codes():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((500, 3)) @ rng.standard_normal((3, 12)) + 2).reshape(500, 2, 6).astype(np.float32)


def sent(build, codes, numbers, monkeypatch):
    own = analog.Codes(SimpleNamespace(), 2, 6)
    monkeypatch.setattr(analog, "codes_with_prior", lambda workbench, weights: own)
    stand_in = build(None, "pair").stand_in
    return stand_in(codes, np.asarray(numbers)).reshape(len(numbers), -1)


def test_gaussian_codes_have_the_moments_of_real_ones_and_nothing_of_the_question(codes, monkeypatch):
    flat, drawn = codes.reshape(500, -1), sent(analog.gaussian_codes, codes, np.arange(500), monkeypatch)
    deviation = flat.std(0).max()
    np.testing.assert_allclose(drawn.mean(0), flat.mean(0), atol=5 * deviation / np.sqrt(500))
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(flat.T), atol=8 * deviation**2 / np.sqrt(500))
    assert abs(np.corrcoef((flat - flat.mean(0)).ravel(), (drawn - drawn.mean(0)).ravel())[0, 1]) < 0.1
    some = sent(analog.gaussian_codes, codes, [7, 3], monkeypatch)
    np.testing.assert_array_equal(some, drawn[[7, 3]])  # a question's draw is its own, whatever the batch


def test_rotated_codes_keep_all_distances_and_no_direction(codes, monkeypatch):
    flat, turned = codes.reshape(500, -1), sent(analog.rotated_codes, codes, np.arange(500), monkeypatch)
    np.testing.assert_allclose(turned.mean(0), flat.mean(0), atol=1e-4)
    for other in (1, 17, 499):
        distance = np.linalg.norm(turned[other] - turned[0])
        assert distance == pytest.approx(np.linalg.norm(flat[other] - flat[0]), rel=1e-4)
    assert np.linalg.norm(turned - flat) > 0.5 * np.linalg.norm(flat - flat.mean(0))
