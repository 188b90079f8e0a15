"""The parts of curves: encoders, carriers, readers. `scheme.py` says what they are; `studies/curves.py` joins them."""
