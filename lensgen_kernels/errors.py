"""What can go wrong in a translation, and where it stands."""

from __future__ import annotations


class TranslationError(TypeError):
    """A formula does something that cannot be translated; the message names file, line and the fix."""
