"""The settings of a recipe as they may stand in a dataset that others read: without folders of this machine and
without passwords.

Of a path only the last name is left, and a URL loses its user, its query and its fragment. Other settings stay as they
are: whether a name that the user chose is private is not decided here.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_URL_WITH_USER = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/\s@]+@")
_PATH = re.compile(r"^(?:file://|local://|/|~/|\\|[A-Za-z]:[/\\]|(?:\.\.?[/\\])+)")


def urls_with_user(settings: Any, key: str = "") -> Iterator[str]:
    """The keys whose URL has a user or a password: recipes are stored, and Prefect shows them."""
    if isinstance(settings, dict):
        for name, member in settings.items():
            yield from urls_with_user(member, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, list | tuple):
        for member in settings:
            yield from urls_with_user(member, key)
    elif isinstance(settings, str) and _URL_WITH_USER.match(settings):
        yield key


def public_settings(value: Any) -> Any:
    """JSON-ready values, with `public_text` of every text in them."""
    if isinstance(value, dict):
        return {key: public_settings(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return list(map(public_settings, value))
    if isinstance(value, str):
        return public_text(value)
    return value


def public_text(text: str) -> str:
    """A path or URL without the parts that name a machine or a person; any other text as it is."""
    if _PATH.match(text):
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    if "://" not in text or any(character.isspace() for character in text):
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return text.partition("://")[0] + "://"
