import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from semantic.image_quality import CONTRAST, LUMINANCE, psnr, ssim


def pictures(batch=2, height=24, width=32, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_psnr_is_that_of_a_known_error_for_each_image_alone():
    images = pictures()
    shown = images.clone()
    shown[0] += 0.1
    shown[1, 0, 0, 0] += 0.5  # one of the image's numbers
    expected = [20.0, 10 * math.log10(images[1].numel() / 0.25)]
    assert psnr(images, shown).tolist() == pytest.approx(expected, abs=1e-3)
    assert torch.isinf(psnr(images, images)).all()


def ssim_by_scipy(image, shown):
    """One colour, with SciPy's filter: a Gaussian of 11 x 11, places where it leaves the image cut off."""

    def smooth(x):
        return gaussian_filter(x, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    mean, mean_hat = smooth(image), smooth(shown)
    variance, variance_hat = smooth(image**2) - mean**2, smooth(shown**2) - mean_hat**2
    covariance = smooth(image * shown) - mean * mean_hat
    top = (2 * mean * mean_hat + LUMINANCE) * (2 * covariance + CONTRAST)
    return np.mean(top / ((mean**2 + mean_hat**2 + LUMINANCE) * (variance + variance_hat + CONTRAST)))


def test_ssim_is_that_of_an_independent_filter():
    images = pictures().double()
    shown = (images + 0.2 * pictures(seed=1).double()).clamp(0, 1)
    expected = [np.mean([ssim_by_scipy(images[i, c].numpy(), shown[i, c].numpy()) for c in range(3)]) for i in range(2)]
    assert ssim(images, shown).tolist() == pytest.approx(expected, rel=1e-6)


def test_ssim_is_one_for_equal_images_and_falls_with_noise():
    images = pictures(1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    found = [ssim(images, images + scale * noise).item() for scale in (0.0, 0.05, 0.2, 1.0)]
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5


def test_images_smaller_than_the_window_have_an_ssim():
    images = pictures(1, 4, 4)
    assert ssim(images, images).item() == pytest.approx(1, abs=1e-6)
