"""Readers: one file = one way to answer from what arrived."""
