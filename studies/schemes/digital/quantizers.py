"""Codes to a given number of bits and back.

Each kind of quantiser learns its tables from training codes, once; with the tables it encodes to any number of bytes.
"""

import functools
import heapq

import numpy as np

MAX_BITS = 8  # largest number for one coefficient
MAX_INDEX_BITS = 8  # largest number for one token: 256 codewords, a handful of training tokens for each
NO_VARIANCE = 1e-9  # a coefficient with this share of the largest variance is never sent
_LEVEL_SAMPLES = 20_000  # coefficients that the levels are fitted to


class TransformQuantizer:
    r"""Scalar quantisation of decorrelated coefficients, with bits where they reduce the error most.

    The numbers of a question's codes become coefficients in the eigenvectors of their covariance (the Karhunen-Loève
    transform). One after the other, each bit goes to the coefficient with the largest expected error :math:`\sigma_i^2
    4^{-b_i}`. Levels are Lloyd-Max's, for the distribution of all coefficients at unit variance.

    Parameters
    ----------
    tables : dict of numpy.ndarray
        From `learn`.
    num_bytes : int
        Size of one example's payload.

    Source: A. Gersho, R. M. Gray, *Vector Quantization and Signal Compression*, 1992, chapters 6 and 8.
    """

    @staticmethod
    def most_bytes(shape: tuple[int, ...]) -> int:
        """Return the largest payload that it can use for codes of a shape, [num_tokens, width]."""
        return -(-MAX_BITS * shape[0] * shape[1] // 8)

    @staticmethod
    def learn(training: np.ndarray) -> dict[str, np.ndarray]:
        """Return the tables for codes like these, [num_examples, num_tokens, width]."""
        flat = training.reshape(len(training), -1).astype(np.float64)
        mean = flat.mean(0)
        variance, basis = np.linalg.eigh(np.cov(flat, rowvar=False, bias=True))
        variance = np.clip(variance, 0, None)
        used = variance > NO_VARIANCE * variance.max()
        pooled = ((flat - mean) @ basis[:, used] / np.sqrt(variance[used])).ravel()
        pooled = pooled[:: max(1, len(pooled) // _LEVEL_SAMPLES)]
        return {
            "mean": mean.reshape(training.shape[1:]),
            "variance": variance,
            "basis": basis,
            **{f"levels_{bits}": lloyd_max(pooled, 2**bits) for bits in range(1, MAX_BITS + 1)},
        }

    @staticmethod
    def problem(tables: dict[str, np.ndarray], shape: tuple[int, int]) -> str:
        """Say why tables are none for codes of a shape, [num_tokens, width]; empty if they are."""
        size = shape[0] * shape[1]
        needed: dict[str, tuple[int, ...]] = {
            "mean": shape,
            "variance": (size,),
            "basis": (size, size),
            **{f"levels_{bits}": (2**bits,) for bits in range(1, MAX_BITS + 1)},
        }
        if problem := unlike(tables, needed):
            return problem
        if tables["variance"].min() < 0 or not tables["variance"].any():
            return "variances must not be negative, nor all of them zero"
        falling = [name for name in needed if name.startswith("levels") and np.diff(tables[name]).min() < 0]
        return f"{falling[0]} are not rising" if falling else ""

    def __init__(self, tables: dict[str, np.ndarray], num_bytes: int):
        self._shape, self.num_bytes = tables["mean"].shape, num_bytes
        self._mean, variance = tables["mean"].ravel(), tables["variance"]
        self._bits = allocate_bits(variance, 8 * num_bytes)
        self._sent = np.flatnonzero(self._bits)
        self._basis, self._deviation = tables["basis"][:, self._sent], np.sqrt(variance[self._sent])
        self._levels = {bits: tables[f"levels_{bits}"] for bits in range(1, MAX_BITS + 1)}

    def encode(self, codes: np.ndarray) -> list[bytes]:
        """Return the payload of each example, [batch, num_tokens, width]."""
        coefficients = (codes.reshape(len(codes), -1) - self._mean) @ self._basis / self._deviation
        indices = np.zeros(coefficients.shape, np.int64)
        for column, bits in enumerate(self._bits[self._sent]):
            levels = self._levels[int(bits)]
            indices[:, column] = np.searchsorted((levels[1:] + levels[:-1]) / 2, coefficients[:, column])
        return pack(indices, self._bits[self._sent], self.num_bytes)

    def decode(self, payload: bytes) -> np.ndarray:
        """Return the codes of one example, float32 [num_tokens, width]."""
        widths = self._bits[self._sent]
        indices = unpack(payload, widths)
        coefficients = np.array([self._levels[int(b)][index] for b, index in zip(widths, indices, strict=True)])
        codes = self._mean + self._basis @ (coefficients * self._deviation)
        return codes.reshape(self._shape).astype(np.float32)


class VectorQuantizer:
    """Each token the index of its nearest codeword, from a codebook for each of the token positions, by k-means.

    Parameters
    ----------
    tables : dict of numpy.ndarray
        From `learn`.
    num_bytes : int
        Size of one example's payload. Each index gets as many bits as fit, `MAX_INDEX_BITS` at most.
    """

    @staticmethod
    def most_bytes(shape: tuple[int, ...]) -> int:
        """Return the largest payload that it can use for codes of a shape, [num_tokens, width]."""
        return -(-MAX_INDEX_BITS * shape[0] // 8)

    @staticmethod
    def learn(training: np.ndarray) -> dict[str, np.ndarray]:
        """Return codebooks, [num_tokens, num_codewords, width], for codes like these, [num_examples, …, width]."""
        by_position = np.moveaxis(training, 1, 0).astype(np.float64)
        sizes = range(min(MAX_INDEX_BITS, int(np.log2(len(training)))) + 1)
        return {f"codebooks_{bits}": np.stack([k_means(vectors, 2**bits) for vectors in by_position]) for bits in sizes}

    @staticmethod
    def problem(tables: dict[str, np.ndarray], shape: tuple[int, int]) -> str:
        """Say why tables are none for codes of a shape, [num_tokens, width]; empty if they are."""
        sizes = range(max(1, len(tables)))
        return unlike(tables, {f"codebooks_{bits}": (shape[0], 2**bits, shape[1]) for bits in sizes})

    def __init__(self, tables: dict[str, np.ndarray], num_bytes: int):
        num_tokens, self.num_bytes = len(tables["codebooks_0"]), num_bytes
        bits = _index_bits(tables, num_bytes)
        self._widths = np.full(num_tokens, bits)
        self._codebooks = tables[f"codebooks_{bits}"]

    def encode(self, codes: np.ndarray) -> list[bytes]:
        """Return the payload of each example, [batch, num_tokens, width]."""
        indices = [nearest(codes[:, i].astype(np.float64), book) for i, book in enumerate(self._codebooks)]
        return pack(np.stack(indices, axis=1), self._widths, self.num_bytes)

    def decode(self, payload: bytes) -> np.ndarray:
        """Return the codes of one example, float32 [num_tokens, width]."""
        indices = unpack(payload, self._widths)
        return np.stack([book[i] for book, i in zip(self._codebooks, indices, strict=True)]).astype(np.float32)


def _index_bits(tables: dict[str, np.ndarray], num_bytes: int) -> int:
    """Return the bits of a payload that each token's index gets."""
    largest = max(int(name.removeprefix("codebooks_")) for name in tables if name.startswith("codebooks_"))
    return min(8 * num_bytes // len(tables["codebooks_0"]), largest)


def unlike(tables: dict[str, np.ndarray], needed: dict[str, tuple[int, ...]]) -> str:
    """Say which table is not there, of another shape, or not finite; empty if all are as needed."""
    for name in sorted({*tables, *needed}):
        here = tables[name].shape if name in tables else None
        if here != needed.get(name):
            return f"{name} has shape {here}, it needs {needed.get(name)}"
        if not np.isfinite(tables[name]).all():
            return f"{name} holds NaN or infinite values"
    return ""


def allocate_bits(variance: np.ndarray, num_bits: int) -> np.ndarray:
    """Give each bit to the largest expected error; int64 [len(variance)], `MAX_BITS` at most each."""
    bits = np.zeros(len(variance), np.int64)
    heap = [(-value, i) for i, value in enumerate(variance) if value > NO_VARIANCE * variance.max()]
    heapq.heapify(heap)
    while num_bits and heap:
        error, i = heapq.heappop(heap)
        bits[i] += 1
        num_bits -= 1
        if bits[i] < MAX_BITS:
            heapq.heappush(heap, (error / 4, i))
    return bits


def lloyd_max(samples: np.ndarray, num_levels: int, num_rounds: int = 60) -> np.ndarray:
    """Fit levels of least squared error to samples: float [num_levels], rising."""
    levels = np.quantile(samples, (np.arange(num_levels) + 0.5) / num_levels)
    for _ in range(num_rounds):
        cell = np.searchsorted((levels[1:] + levels[:-1]) / 2, samples)
        count = np.bincount(cell, minlength=num_levels)
        total = np.bincount(cell, weights=samples, minlength=num_levels)
        levels = np.where(count > 0, total / np.maximum(count, 1), levels)
    return np.sort(levels)


def k_means(vectors: np.ndarray, num_codewords: int, num_rounds: int = 25) -> np.ndarray:
    """Fit codewords of least squared error to vectors: float [num_codewords, width].

    The first ones are drawn from the vectors, each with a probability that grows with its squared distance from those
    drawn before. Source: D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    rng = np.random.default_rng(0)
    first = vectors[rng.integers(len(vectors))]
    codewords, distance = [first], ((vectors - first) ** 2).sum(-1)
    while len(codewords) < num_codewords:
        weights = distance + 1e-12  # vectors that occur twice may all be drawn already
        codewords.append(vectors[rng.choice(len(vectors), p=weights / weights.sum())])
        distance = np.minimum(distance, ((vectors - codewords[-1]) ** 2).sum(-1))
    book = np.stack(codewords)
    for _ in range(num_rounds):
        owner = nearest(vectors, book)
        count = np.bincount(owner, minlength=num_codewords)
        total = np.zeros_like(book)
        np.add.at(total, owner, vectors)
        book = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], book)
    return book


def nearest(vectors: np.ndarray, codewords: np.ndarray) -> np.ndarray:
    """Return the index of each vector's nearest codeword: int64 [num_vectors]."""
    return np.argmin((codewords**2).sum(-1) - 2 * vectors @ codewords.T, axis=1)


def pack(indices: np.ndarray, widths: np.ndarray, num_bytes: int) -> list[bytes]:
    """Write indices [batch, num], of `widths` bits each, one behind the other; zeros fill the rest."""
    owner, shift = _bits_of(widths)
    bits = np.zeros((len(indices), 8 * num_bytes), np.uint8)
    bits[:, : len(owner)] = (indices[:, owner] >> shift) & 1
    return [row.tobytes() for row in np.packbits(bits, axis=1)]


def unpack(payload: bytes, widths: np.ndarray) -> np.ndarray:
    """Read what `pack` wrote: int64 [num]."""
    owner, shift = _bits_of(widths)
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))[: len(owner)].astype(np.int64)
    return np.bincount(owner, weights=bits << shift, minlength=len(widths)).astype(np.int64)


def _bits_of(widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each bit the index that it belongs to, and its position in it."""
    return _cached_bits(tuple(int(width) for width in widths))


@functools.cache
def _cached_bits(widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(len(widths)), np.array(widths, dtype=np.int64))
    shift = np.array([bit for width in widths for bit in range(width)], dtype=np.int64)
    return owner, shift
