"""Similarity of a received image to the one that was sent."""

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # size and deviation of SSIM's Gaussian window [pixels]
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # SSIM's constants for a range of one


def psnr(
    images: Float[Tensor, "batch channels height width"], shown: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, " batch"]:
    r"""Peak signal-to-noise ratio of each image, its values between 0 and 1 [dB].

    .. math:: -10 \log_{10} \operatorname{mean}(s - \hat s)^2

    Infinite where nothing differs.
    """
    return -10 * (shown - images).square().mean((1, 2, 3)).log10()


def ssim(
    images: Float[Tensor, "batch channels height width"], shown: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, " batch"]:
    r"""Structural similarity of each image, its values between 0 and 1; equal images have 1.

    .. math:: \frac{(2\mu\hat\mu + C_1)(2\sigma_{s\hat s} + C_2)}
        {(\mu^2 + \hat\mu^2 + C_1)(\sigma^2 + \hat\sigma^2 + C_2)}

    averaged over the colours and over all positions of a Gaussian window inside the image; a small image has a small
    window.

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE Trans.
    Image Process. 13(4), 2004.
    """
    num_channels = images.shape[1]

    def window(size: int) -> Tensor:
        offset = torch.arange(size, dtype=images.dtype) - (size - 1) / 2
        weights = torch.exp(-(offset**2) / (2 * SIGMA**2))
        return weights / weights.sum()

    rows, columns = (window(min(WINDOW, size)) for size in images.shape[2:])
    vertical = rows[None, None, :, None].repeat(num_channels, 1, 1, 1)  # [channels, 1, rows, 1]
    horizontal = columns[None, None, None, :].repeat(num_channels, 1, 1, 1)  # [channels, 1, 1, columns]

    def local_mean(x: Tensor) -> Tensor:
        smooth = torch.nn.functional.conv2d(x, vertical, groups=num_channels)
        return torch.nn.functional.conv2d(smooth, horizontal, groups=num_channels)

    mean, mean_hat = local_mean(images), local_mean(shown)
    variance, variance_hat = local_mean(images**2) - mean**2, local_mean(shown**2) - mean_hat**2
    covariance = local_mean(images * shown) - mean * mean_hat
    similarity = (2 * mean * mean_hat + LUMINANCE) * (2 * covariance + CONTRAST)
    similarity = similarity / ((mean**2 + mean_hat**2 + LUMINANCE) * (variance + variance_hat + CONTRAST))
    return similarity.mean((1, 2, 3))
