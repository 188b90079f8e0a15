"""Carriers: one file = one way from the sensor to the task agent."""
