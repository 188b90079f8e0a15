"""Published numbers that anyone can measure again: `tokenlink selfcheck --published`.

`card.py` says what a card is and when it holds; the other files are the cards, a file per kind of source.
"""
