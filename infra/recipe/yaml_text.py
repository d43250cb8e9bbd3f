"""YAML as recipes use it: a key that comes twice is an error, and only `true` and `false` are yes and no.

YAML readers take the last of two equal keys and say nothing. YAML 1.1 reads `off`, `on`, `yes` and `no` as booleans;
here they are text, as in YAML 1.2, since keys have them as values (`sharing: off`) and languages have them as names.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml


class RepeatedKeyError(ValueError):
    """A mapping has a key twice; the message names it and both lines."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 in what a boolean is; else as PyYAML reads."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_BOOLEAN = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, list("tTfF"))


def read_yaml(text: str) -> Any:
    """The value of a YAML document. Raises yaml.YAMLError for what is none, RepeatedKeyError for a key twice."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for mapping in _mappings(node, set()):
            _refuse_repeated_keys(mapping)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _mappings(node: yaml.Node, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """All mappings of a document; one that is an alias of another comes once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for key, value in node.value:
            yield from _mappings(key, seen)
            yield from _mappings(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mappings(value, seen)


def _refuse_repeated_keys(mapping: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            raise RepeatedKeyError(
                f"the key `{key.value}` comes twice, in lines {lines[name]} and {line}, and the first would be lost "
                "without a word; make one of the two"
            )
        lines[name] = line
