"""How many questions make every interval narrow enough: a first run of a few tells, the study then asks so many.

The second of two stages has a size that the first one decides, which fixes the width and leaves intervals valid. All
schemes are asked the same questions, so that differences stay paired.

Source: C. Stein, "A two-sample test for a linear hypothesis whose power is independent of the variance", Annals of
Mathematical Statistics, 1945.
"""

import numpy as np

from studies.archive import Results
from studies.statistics import wilson_interval

FIRST_STAGE = 400  # questions


def needed(results: Results, width: float) -> int:
    """Return the number of questions with which no accuracy's 95 % Wilson interval should be wider.

    Each accuracy is taken for that value in its interval of the first stage that needs most questions.

    Parameters
    ----------
    results : Results
        Of the first stage.
    width : float
        Widest interval allowed, as a share.
    """
    low, high = (results.variables[name] for name in ("accuracy_low", "accuracy_high"))
    hardest = np.clip(0.5, low, high)[np.isfinite(low)]
    return max(_questions(accuracy, width) for accuracy in np.unique(hardest))


def _questions(accuracy: float, width: float) -> int:
    few, many = 1, 2
    while _width(accuracy, many) > width:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if _width(accuracy, middle) > width else (few, middle)
    return many


def _width(accuracy: float, num_questions: int) -> float:
    low, high = wilson_interval(np.array(accuracy * num_questions), np.array(num_questions))
    return float(high - low)
