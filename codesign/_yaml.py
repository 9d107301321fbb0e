"""YAML that describes something: keys, lists and plain values, of a bounded size and depth.

Aliases are read as long as what they stand for stays small; tags, merge keys, dates and keys given twice are not.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

MOST_DEPTH = 32
"""Lists and keys within each other."""
MOST_VALUES = 20_000
"""Keys and values of a document, every alias counted as what it stands for."""
MOST_DIGITS = 100
"""Of a number."""


def load_yaml(text: str) -> Any:
    """The value that YAML `text` says: None, booleans, numbers, texts, lists and dicts of them.

    Raises:
        ValueError: one line that says where the text is no such YAML, or too large.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}not YAML: {_short(error.problem or error)}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {_short(error)}") from None
    except RecursionError:
        raise ValueError("not YAML: lists within lists, too deep") from None


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 200 else line[:197] + "..."


class _Loader(yaml.SafeLoader):
    """A SafeLoader of plain values that counts while it reads."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # values and depth of every node that is complete, by identity

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _refused(f"more than {MOST_DEPTH} lists or keys within each other", mark)
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _refused(f"tag {_short(tag)} given, must be none: plain values only", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _refused("an alias stands for what it is part of", mark)
        elif node is not None:
            self._sizes[id(node)] = self._measured(node, mark)
        return node

    def _measured(self, node: yaml.Node, mark: yaml.Mark) -> tuple[int, int]:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        values, depth = 1, 1
        for child in children:
            below = self._sizes[id(child)]
            values, depth = values + below[0], max(depth, 1 + below[1])
        if values > MOST_VALUES or depth > MOST_DEPTH:
            what = f"more than {MOST_VALUES:,} values" if values > MOST_VALUES else f"deeper than {MOST_DEPTH}"
            raise _refused(f"{what}, each alias counted as what it stands for", mark)
        return values, depth

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; a key given twice, of which YAML would silently take the last, is refused."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _refused("'<<' merges keys, must be written out", key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused("a key must be a text", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _refused(f"key {_short(key)!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def _number(self, node: yaml.ScalarNode) -> Any:
        if len(node.value) > MOST_DIGITS:
            raise _refused(f"a number of {len(node.value):,} digits", node.start_mark)
        if ":" in node.value:  # YAML 1.1 takes 1:30 for 90
            raise _refused(f"{node.value} is no number", node.start_mark)
        try:
            whole = node.tag == "tag:yaml.org,2002:int"
            return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        except (ValueError, OverflowError) as error:
            raise _refused(f"{node.value} is no number ({error})", node.start_mark) from None


def _refused(problem: str, mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader._number)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in ("timestamp", "value")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
"""A date is a text, and `=` too."""
