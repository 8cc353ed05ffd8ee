"""Reads the docstrings' `Example:` and formulas as what they are, for the reference."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """An example is a section of code, not a paragraph; `References:` is a list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Names the section as the parser knows it."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
