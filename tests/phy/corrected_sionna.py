"""Sionna 1.2.2 with Doppler shifts that follow the moving end, as in its later versions: something to compare with."""


def follow_the_terminal(model, direction):
    """Let the rays of one model of Sionna turn by their angles of departure if the transmitter moves."""
    if direction == "downlink":
        return model
    rays, departure = model._cir_sampler, []
    offsets, doppler = rays._step_11_array_offsets, rays._step_11_doppler_matrix

    def array_offsets(topology, aoa, aod, zoa, zod):
        departure[:] = aod, zod  # Sionna asks for the phases of the arrays first
        return offsets(topology, aoa, aod, zoa, zod)

    rays._step_11_array_offsets = array_offsets
    rays._step_11_doppler_matrix = lambda topology, aoa, zoa, t: doppler(topology, *departure, t)
    return model
