"""Studies: one file = one figure. `accuracy_vs_snr.py` is the first to read; `cli.py` is the command `tokenlink`."""
