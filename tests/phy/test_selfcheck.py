import pytest

from phy import selfcheck


@pytest.mark.slow
def test_every_row_is_ok():
    rows = selfcheck.rows()
    assert len(rows) > 20
    assert not [row for row in rows if row.verdict != "ok"]


def test_a_wrong_figure_is_called_off():
    assert selfcheck._row("SNR", "10 dB", 10.0, 10.06, 0.05).verdict == "off"
    assert selfcheck._row("SNR", "10 dB", 10.0, float("nan"), 0.05).verdict == "off"
