"""As `jpeg-ldpc`, but whatever the SNR, with the MCS and the images that are made for 10 dB: it shows the cliff."""

from studies.schemes.digital.payload_link import payload_link
from studies.schemes.jpeg_ldpc import DATA_RES, JpegLdpc, sample_error
from studies.workbench import Workbench

DESIGN_SNR_DB = 10.0


def build(workbench: Workbench) -> JpegLdpc:
    """Build the scheme from a run's configuration."""
    link, error = payload_link(workbench, DATA_RES), sample_error(workbench)
    agents = workbench.agents(workbench.config.models.machine_tokens)
    return JpegLdpc(agents, link, lambda snr_db: link.adapted(DESIGN_SNR_DB, error))
