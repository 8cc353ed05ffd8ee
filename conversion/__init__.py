"""Other people's weight files -> ours: without their frameworks, and without trust."""

from conversion.sources import get

__all__ = ["get"]
