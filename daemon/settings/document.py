"""`config.yaml` as written: every value as text, with the line it stands on.

PyYAML's loader turns ON into true, 12:30 into 750 and 40.80 into a float, and forgets where things stood. Here the
parse tree is read instead: scalars stay text for the models to interpret, and each key keeps its place. Duplicate
keys, tags, anchors and several documents in one file are refused: each is a way to say something other than one meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from daemon.settings.problems import Problem, dotted
from daemon.settings.redaction import MASK, looks_like_a_secret
from daemon.settings.wording import Key

LARGEST_FILE_BYTES = 1_000_000
_NULL = frozenset(("", "~", "null", "Null", "NULL"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written."""

    file: str
    line: int | None
    start: int = 0  # offsets into the text, for replacing a value in place
    end: int = 0


@dataclass
class Document:
    """Values as nested dictionaries, lists, text and None, with the place of each."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Key) -> Place:
        """The place of a key, or of the nearest key above it that is written somewhere."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.file, 1))

    def problem(self, path: Key, seen: str, allowed: str, hint: str = "") -> Problem:
        """A problem at a key. Names in it that might be a pasted secret are masked."""
        place = self.place(path)
        harmless = (MASK if isinstance(part, str) and looks_like_a_secret(part) else part for part in path)
        return Problem(place.file, place.line, dotted(harmless), seen, allowed, hint)

    def value(self, path: Key) -> Any:
        """What is written at `path`; None where nothing is."""
        found: Any = self.values
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found


def parse(text: str, file: str) -> Document:
    """Read YAML text. What cannot be read is among the document's problems, never raised."""
    document = Document(file)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        document.problems.append(_syntax_problem(error, text, file))
        return document
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value in _NULL):
        document.problems.append(
            Problem(file, 1, "", "an empty file", "settings", "`harvestd init --path NEW_FILE` writes a complete one.")
        )
    elif not isinstance(root, yaml.MappingNode):
        document.problems.append(
            Problem(file, _line(root), "", _kind(root), "a mapping of keys to values", "Write keys: `mode: paper`.")
        )
    else:
        document.values = _Reader(document).mapping(root, ())
    return document


class _Reader:
    """Walks the parse tree once. A node met twice is an alias."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._met: set[int] = set()

    def _refuse(self, path: Key, seen: str, allowed: str, hint: str = "") -> None:
        self._document.problems.append(self._document.problem(path, seen, allowed, hint))

    def value(self, node: yaml.Node, path: Key) -> Any:
        """The node's value. Refused nodes give None and leave a problem."""
        if id(node) in self._met:
            self._refuse(path, "an alias (*name)", "the value written out", "Anchors and aliases are not read.")
            return None
        self._met.add(id(node))
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self._refuse(path, "a YAML tag (!name)", "a plain value", "Leave the tag out.")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(node, path)
        is_null = getattr(node, "style", None) is None and node.value in _NULL  # a quoted "null" is text
        return None if is_null else node.value

    def sequence(self, node: yaml.SequenceNode, path: Key) -> list[Any]:
        """A list, each item with its place."""
        items = []
        for index, item in enumerate(node.value):
            self._document.places[(*path, index)] = _place(self._document.file, item)
            items.append(self.value(item, (*path, index)))
        return items

    def mapping(self, node: yaml.MappingNode, path: Key) -> dict[str, Any]:
        """A mapping, each key with its place; a key written twice is refused."""
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(path, _kind(key_node), "a key that is plain text")
                continue
            key = key_node.value
            here = (*path, key)
            if key in values:
                again = self._document.problem(here, "", "each key once", "Keep one of them.")
                seen = f"written again (first on line {again.line})"
                self._document.problems.append(replace(again, line=_line(key_node), seen=seen))
                continue
            place = _place(self._document.file, value_node)
            self._document.places[here] = Place(place.file, _line(key_node), place.start, place.end)
            values[key] = self.value(value_node, here)
        return values


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _place(file: str, node: yaml.Node) -> Place:
    return Place(file, _line(node), node.start_mark.index, node.end_mark.index)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "plain text"


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """PyYAML's complaint with its line. Its own message would quote the line, which may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        context, words = str(error.context or ""), error.problem or "not YAML"
        scanning = context.startswith("while scanning") and error.context_mark is not None
        mark = error.context_mark if scanning else error.problem_mark  # where a quote was opened, not where text ended
        line = (mark or error.problem_mark).line + 1
        written = text.splitlines()[line - 1 : line]
        hint = "Check indentation, quotes and the space after each colon."
        if any("\t" in each for each in written):
            hint = "Indent with spaces, not tabs."
        elif "document" in context + words:
            hint = "Keep one document: remove the lines that are only ---."
        return Problem(file, line, "", "a tab" if "'\\t'" in words else _harmless(words), "YAML", hint)
    position = getattr(error, "position", 0)
    line = text.count("\n", 0, position) + 1
    return Problem(file, line, "", "a character that YAML does not allow", "printable text", "Type the line anew.")


def _harmless(words: str) -> str:
    return "something else" if any(looks_like_a_secret(word.strip("'\"")) for word in words.split()) else words
