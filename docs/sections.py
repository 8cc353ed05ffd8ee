"""Prepares docstrings for the reference: they are written for `help`, where nothing is markup."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """`Example:` is a section of code, and `<u, v>` a product, not a tag."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Writes both as the reader of docstrings knows them."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"<(?=\w+, \w+>)", "&lt;", text)
