"""Codes of the digital carriers: the budget and its link, words, images and quantised numbers in bytes."""
