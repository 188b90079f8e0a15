"""Curves and figures of your own: named MODULE:ATTRIBUTE, they stay outside of this package."""

import importlib
import os
import sys
from typing import TypeVar

from studies.config import shown

Kind = TypeVar("Kind")


def load(name: str, kind: type[Kind]) -> Kind:
    """Return the object of a name MODULE:ATTRIBUTE; modules of the working folder count.

    Raises
    ------
    ValueError
        If the module cannot be imported, or its attribute is of another kind.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # spawned workers get the same path
    try:
        value = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{shown(name)} cannot be imported: {error}; write MODULE:ATTRIBUTE") from error
    if not isinstance(value, kind):
        raise ValueError(f"{shown(name)} is {type(value).__name__}, not {kind.__module__}.{kind.__qualname__}")
    return value
