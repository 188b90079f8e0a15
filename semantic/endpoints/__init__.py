"""The embedded pair: its shapes, and the pretraining of vision tower, language model and sensor."""
