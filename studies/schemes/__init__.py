"""One file = one curve. `scheme.py` says what a curve is; each of the others offers `build(workbench)`."""
