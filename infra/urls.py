"""URLs as they may be shown and stored: without users and passwords."""

import re

_USER = re.compile(r"//[^/\s]*@")  # an @ behind the next slash belongs to a path


def without_user(text: str) -> str:
    """A URL, a path, or a message with URLs in it, without users and passwords."""
    return _USER.sub("//", text)
