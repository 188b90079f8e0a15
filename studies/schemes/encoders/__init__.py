"""Encoders: one file = one language of the sensor."""
