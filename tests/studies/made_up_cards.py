"""Cards without a link: one that agrees, one that does not, one that has too little to go by, one that breaks."""

import numpy as np

from studies.cards.card import Card, Point, count_errors

RATE = 0.1  # of the words that are lost


def made_up(*, printed=RATE, errors=None, batches=50, measure=None):
    """A card of one number, whose words are lost at `RATE`."""

    def draw(batch):
        lost = np.random.default_rng(batch).random((100, 1)) < RATE
        return lambda at: lost

    return Card(
        title=f"printed {printed:g}",
        source="a book",
        settings="none",
        ours="all",
        axis="SNR [dB]",
        tolerance=0.2,
        points=(Point(at=1.0, printed=printed, errors=errors),),
        measure=measure or (lambda card: count_errors(card, draw, batches)),
    )


def break_off(card):
    """Measure nothing."""
    raise ValueError("no such channel")


CARDS = (made_up(), made_up(printed=0.2), made_up(batches=4), made_up(measure=break_off))
