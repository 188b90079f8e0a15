"""Benchmark 2 in the resource elements of machine tokens: DeepJSCC with 320 real numbers for a whole image.

That is what five tokens of 64 numbers take, 80 resource elements with amplitude modulation and four antennas, and one
number for 230 of the image's (k/n = 1/230).
"""

from studies.schemes.deepjscc import AnalogImage, build_with
from studies.workbench import Workbench


def build(workbench: Workbench) -> AnalogImage:
    """Build the scheme from a run's configuration."""
    return build_with(workbench, workbench.config.models.deepjscc_small)
