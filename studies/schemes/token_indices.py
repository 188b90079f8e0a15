"""What the paper argues against: each token as its index in a vocabulary of codewords, over the digital link.

The codes of the proposal, token by token replaced by the nearest codeword of a codebook for its position (k-means); the
indices take the resource elements of machine tokens. Otherwise as `quantized-tokens`, also in what the codebooks are
learned from. There are 256 codewords at most: a handful of training codes for each.
"""

from studies.schemes.quantized_tokens import QuantizedTokens, build_with
from studies.workbench import Workbench


def build(workbench: Workbench) -> QuantizedTokens:
    """Build the scheme from a run's configuration."""
    return build_with(workbench, "vector")
