"""Other people's weight files -> ours, and back: without their frameworks, and without trust."""

from conversion.exports import export
from conversion.sources import convert, get

__all__ = ["convert", "export", "get"]
