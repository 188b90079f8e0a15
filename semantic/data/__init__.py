"""Scenes, questions and readers; the shipped test split."""

from pathlib import Path

from semantic.data.clevr import ClevrDataset

SHIPPED = Path(__file__).parent / "clevr-mini"


def shipped_split() -> ClevrDataset:
    """Return the test split that ships with the project: rendered scenes that no training has seen."""
    return ClevrDataset(SHIPPED, split="test")
