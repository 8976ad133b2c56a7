"""The models put into words: what is allowed at a key, which keys there are, which one was probably meant.

The words come from the types themselves, so that a message, the comments of `config.yaml` and the check agree.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daemon.settings.choices import Mode
from daemon.settings.models import Settings
from daemon.settings.values import Words, unit_of

Key = tuple[str | int, ...]  # ("household", "accounts", 0, "id")


def model_fields(annotation: object) -> Mapping[str, FieldInfo]:
    """The keys of a section; empty for anything else."""
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return cast(type[BaseModel], annotation).model_fields if is_section else {}


def item_type(annotation: object) -> object | None:
    """The type of a list's items; None for anything that is not a list."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def type_at(path: Sequence[str | int]) -> tuple[str, object, tuple[Any, ...]] | None:
    """Name, type and constraints of what belongs at `path`; None where nothing does."""
    name: str = ""
    annotation: object = Settings
    metadata: tuple[Any, ...] = ()
    for part in path:
        if isinstance(part, int):
            inner = item_type(annotation)
            if inner is None:
                return None
            annotation, metadata = _opened(inner)
        else:
            field = model_fields(annotation).get(part)
            if field is None:
                return None
            name, annotation, metadata = part, field.annotation, tuple(field.metadata)
    return name, annotation, metadata


def fields(model: object = Settings, above: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """Every key outside lists with its field, sections before what is in them."""
    for name, field in model_fields(model).items():
        yield (*above, name), field
        yield from fields(field.annotation, (*above, name))


def leaves() -> Iterator[Key]:
    """The keys that hold a value or a list of them."""
    return (path for path, field in fields() if not model_fields(field.annotation))


def _opened(annotation: object) -> tuple[object, tuple[Any, ...]]:
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        flat = (more for part in metadata for more in (part.metadata if isinstance(part, FieldInfo) else (part,)))
        return inner, tuple(flat)
    return annotation, ()


def _bounds(metadata: Iterable[Any]) -> tuple[str, str]:
    """Lower and upper bound in words, each "" where there is none."""
    low = high = ""
    for bound in metadata:
        if isinstance(bound, at.Ge):
            low = f"from {bound.ge}"
        elif isinstance(bound, at.Gt):
            low = f"above {bound.gt}"
        elif isinstance(bound, at.Le):
            high = f"to {bound.le}"
    if low.startswith("above") and high:
        high = f"and up {high}"
    return low, high


def allowed(path: Sequence[str | int]) -> str:
    """What may stand at `path`, with unit and range: "a number from 0 to 100 (percent)"."""
    found = type_at(path)
    return "a key that harvestd knows" if found is None else _in_words(*found)


def choices(path: Sequence[str | int]) -> tuple[str, ...]:
    """The members of the closed list at `path`; empty where it is not one."""
    found = type_at(path)
    if found is None or not (isinstance(found[1], type) and issubclass(found[1], Enum)):
        return ()
    return tuple(str(member.value) for member in found[1] if member is not Mode.DEMO)


def _in_words(name: str, annotation: object, metadata: tuple[Any, ...]) -> str:
    opened, more = _opened(annotation)
    metadata = (*metadata, *more)
    if get_origin(opened) in (Union, types.UnionType):
        some = next(part for part in get_args(opened) if part is not type(None))
        return f"{_in_words(name, some, metadata)}, or null"
    for word in metadata:
        if isinstance(word, Words):
            return word.text
    inner = item_type(opened)
    if inner is not None:
        return _list_in_words(name, inner, metadata)
    if model_fields(opened):
        return "a mapping with the keys " + ", ".join(model_fields(opened))
    if isinstance(opened, type) and issubclass(opened, Enum):
        return "one of " + ", ".join(str(member.value) for member in opened if member is not Mode.DEMO)
    return _plain_in_words(name, opened, metadata)


def _list_in_words(name: str, inner: object, metadata: tuple[Any, ...]) -> str:
    shortest = next((limit.min_length for limit in metadata if isinstance(limit, at.MinLen)), 0)
    longest = next((limit.max_length for limit in metadata if isinstance(limit, at.MaxLen)), None)
    counts = (f" of at least {shortest}" if shortest else "") + (f" and at most {longest}" if longest else "")
    if shortest and longest:
        counts = f" of {shortest} to {longest}"
    elif longest:
        counts = f" of at most {longest}"
    each = _in_words(name, inner, ())
    return f"a list{counts}, each {each}"


def _plain_in_words(name: str, annotation: object, metadata: tuple[Any, ...]) -> str:
    if annotation is bool:
        return "true or false"
    if annotation in (int, float, Decimal):
        kind = "a whole number" if annotation is int else "a number"
        unit = unit_of(name)
        return " ".join(filter(None, (kind, *_bounds(metadata), f"({unit})" if unit else "")))
    if annotation is date:
        return "a day written YYYY-MM-DD"
    if annotation is Path:
        return "a path"
    return "text"


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or ""."""
    by_small_letters = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), list(by_small_letters), n=1, cutoff=0.6)
    return by_small_letters[close[0]] if close else ""


def key_meant(path: Sequence[str | int]) -> str:
    """The dotted key that was probably meant by an unknown one: a neighbour first, then the same name elsewhere."""
    *above, last = path
    found = type_at(above)
    neighbour = meant(str(last), model_fields(found[1]) if found else ())
    if neighbour:
        return ".".join(str(part) for part in (*(p for p in above if isinstance(p, str)), neighbour))
    elsewhere = {str(leaf[-1]): ".".join(map(str, leaf)) for leaf, _ in fields()}
    name = meant(str(last), elsewhere) if str(last) not in elsewhere else str(last)
    return elsewhere.get(name, "")
