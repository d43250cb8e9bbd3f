"""Bytes to text: the encodings that text files have, and files that are no text at all."""

from infra.errors import UnreadableError

_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SAMPLE = 1 << 16
_MOST_CONTROL = 0.01  # share of control characters in a text


def decoded(data: bytes, stated: str = "") -> str:
    """The text of a file's bytes, with LF at the ends of its lines.

    By its mark, else as UTF-8, else in the encoding that the file states, else as GB 18030, which GBK and GB 2312 are
    part of. Raises UnreadableError: encoding, or binary for a file that is no text.
    """
    encoding = "utf-8"
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            encoding = name
    if encoding == "utf-8" and b"\0" in data[:_SAMPLE]:
        encoding = _utf16_without_mark(data)
    text = _decoded_as(data, encoding)
    for other in (stated, "gb18030"):
        if text is None and other and encoding == "utf-8":
            text = _decoded_as(data, other)
    if text is None:
        raise UnreadableError("encoding", "neither UTF-8, UTF-16 nor GB 18030; convert it to UTF-8")
    if _is_binary(text):
        raise UnreadableError("binary", "holds control characters as no text does")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded_as(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):  # the latter: there is no such encoding
        return None


def _utf16_without_mark(data: bytes) -> str:
    """UTF-16 has its zeros at every second byte where the text is Latin; anything else with zeros is no text."""
    sample = data[:_SAMPLE]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) / 8 and not even:
        return "utf-16-le"
    if even > len(sample) / 8 and not odd:
        return "utf-16-be"
    raise UnreadableError("binary", "holds zero bytes as no text does")


def _is_binary(text: str) -> bool:
    sample = text[:_SAMPLE]
    control = sum(character < " " and character not in "\t\n\r\f" for character in sample)
    return control > _MOST_CONTROL * len(sample)
