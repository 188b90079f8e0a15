import numpy as np
import py3gpp
import pytest
from scipy.stats import binom
from sionna.phy.fec.polar.decoding import Polar5GDecoder
from sionna.phy.fec.polar.encoding import Polar5GEncoder

from phy.polar_code import PolarCode, polar_crc_bits

SIZES = [(12, 18), (19, 30), (20, 64), (40, 58), (40, 640), (140, 576), (200, 400), (500, 560), (500, 1000), (64, 1087)]


def random_bits(*shape, seed=0):
    return np.random.default_rng(seed).integers(2, size=shape).astype(np.float32)


def received(words, snr_db, seed=1):
    """Log-likelihood ratios of words in real Gaussian noise."""
    variance = 10 ** (-snr_db / 10) / 2
    y = 2 * words - 1 + np.sqrt(variance) * np.random.default_rng(seed).standard_normal(words.shape)
    return (2 * y / variance).astype(np.float32)


@pytest.mark.parametrize(("num_bits", "n"), SIZES)
def test_words_are_those_of_sionna_bit_for_bit(num_bits, n):
    bits = random_bits(5, num_bits)
    np.testing.assert_array_equal(PolarCode(num_bits, n).encode(bits), Polar5GEncoder(num_bits, n)(bits))


def triangular(num_bits):
    """Row by row into a triangle, column by column out: the interleaver of 38.212, section 5.4.1.3."""
    side = next(t for t in range(num_bits + 1) if t * (t + 1) // 2 >= num_bits)
    first = np.cumsum([0, *range(side, 0, -1)])
    return [first[i] + j for j in range(side) for i in range(side - j) if first[i] + j < num_bits]


@pytest.mark.parametrize(
    ("num_bits", "n", "size"), [(40, 640, 512), (40, 2560, 512), (150, 1300, 1024), (350, 4096, 1024), (16, 300, 256)]
)
def test_repeated_words_are_those_of_py3gpp_bit_for_bit(num_bits, n, size):
    bits = random_bits(num_bits).astype(int)
    block = py3gpp.nrCRCEncode(bits, str(polar_crc_bits(num_bits)))[:, 0].astype(int)
    mother = py3gpp.nrPolarEncode(block, n, nmax=size.bit_length() - 1)
    expected = py3gpp.nrRateMatchPolar(mother, len(block), n)[triangular(n)]
    np.testing.assert_array_equal(PolarCode(num_bits, n).encode(bits[None])[0], expected)


@pytest.mark.parametrize(("num_bits", "n"), [*SIZES, (8, 18), (8, 640), (40, 2560), (350, 12_288)])
def test_coding_is_undone_without_noise(num_bits, n):
    code, bits = PolarCode(num_bits, n), random_bits(5, num_bits)
    decoded, valid = code.decode(10 * code.encode(bits) - 5)
    np.testing.assert_array_equal(decoded, bits)
    assert valid.all()


@pytest.mark.parametrize(("num_bits", "n", "snr_db"), [(20, 64, -3.0), (24, 48, -0.5), (16, 70, -5.5)])
def test_decisions_are_those_of_sionnas_list_decoder(num_bits, n, snr_db):
    """Repetition, puncturing and shortening; a good part of the words is lost, so that the list matters."""
    code, bits = PolarCode(num_bits, n), random_bits(200, num_bits)
    llr = received(code.encode(bits), snr_db)
    decoded, valid = code.decode(llr)
    sionnas = Polar5GDecoder(Polar5GEncoder(num_bits, n), dec_type="SCL", list_size=8, return_crc_status=True)
    expected, status = (part.numpy() for part in sionnas(llr))
    assert 0.05 < np.mean(~valid) < 0.9
    assert np.mean(valid == status) >= 0.99  # Sionna clips at 30, which can turn a tie
    both = valid & status
    assert np.mean(np.all(decoded == expected, axis=1)[both]) >= 0.99


def test_a_byte_is_decoded_as_by_trying_all_256_words():
    code = PolarCode(8, 640)
    every = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    sent = np.random.default_rng(2).integers(256, size=400)
    llr = received(code.encode(every[sent]), -16.5)
    likeliest = np.argmax(llr @ code.encode(every).T, axis=1)
    decoded, valid = code.decode(llr)
    found = np.packbits(decoded, axis=1)[:, 0]
    assert 0.01 < np.mean(likeliest != sent) < 0.05
    assert np.mean(valid & (found == likeliest)) > 0.88  # the rest fails the CRC, or lies outside the list


@pytest.mark.parametrize(("num_bits", "n"), [(8, 64), (40, 128)])
def test_noise_is_taken_for_a_word_as_often_as_the_crc_says(num_bits, n):
    """Eight paths, each of which has one chance in 2 to the length of the CRC."""
    trials = 1000
    _, valid = PolarCode(num_bits, n).decode(np.random.default_rng(3).standard_normal((trials, n)).astype(np.float32))
    assert valid.sum() <= binom.ppf(1 - 1e-6, trials, 8 / 2 ** polar_crc_bits(num_bits))


def test_a_decision_does_not_depend_on_the_batch():
    code = PolarCode(40, 128)
    llr = received(code.encode(random_bits(60, 40)), -3.5)
    decoded, valid = code.decode(llr)
    assert 0 < valid.sum() < 60
    for i in range(60):
        alone, holds = code.decode(llr[[i]])
        np.testing.assert_array_equal(alone[0], decoded[i])
        assert holds[0] == valid[i]
