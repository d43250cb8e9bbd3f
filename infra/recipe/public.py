"""What of a recipe may stand in a dataset that others read: no folder of this machine, no password, no link target.

Settings are shown as they are, except that an absolute path keeps its last name alone and a URL loses its user,
its query and its fragment. Leaves out: judging whether a name that the user chose is itself private.
"""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_ABSOLUTE = re.compile(r"^(?:file://|local://|/|~/|\\|[A-Za-z]:[/\\]|(?:\.\.?[/\\])+)")


def public(value: Any) -> Any:
    """JSON-ready values with every text in them made public."""
    if isinstance(value, dict):
        return {key: public(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [public(each) for each in value]
    return public_text(value) if isinstance(value, str) else value


def public_text(text: str) -> str:
    """A path or URL without what belongs to a machine or a person; any other text as it is."""
    if _ABSOLUTE.match(text):
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    if "://" not in text or any(character.isspace() for character in text):
        return text
    try:
        parts = urlsplit(text)
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, place, parts.path, "", ""))
    except ValueError:
        return text.partition("://")[0] + "://"
