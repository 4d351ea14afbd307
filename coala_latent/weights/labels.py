"""Names of classes: read from packages' files, which are never executed, or from a user's file."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from coala_latent.errors import WeightsError

__all__ = ["AUDIOSET_ONLY", "audioset_names", "checked_count", "python_names", "read_labels"]

# The kinds of AudioSet's list that YAMNet was not trained on: by sex of the speaker or singer, a
# battle cry, and funny music. What is left is its class map, in the same order.
AUDIOSET_ONLY = frozenset(
    ("/m/05zppz", "/m/02zsn", "/m/04gy_2", "/t/dd00003", "/t/dd00004", "/t/dd00032")
)

# Columns and entries that names are kept under, in the public files of class names.
_KEYS = ("display_name", "name", "label", "class", "tag")
# SoundNet's own lists: "/a/abbey" and "n01440764 tench, Tinca tinca".
_PREFIX = re.compile(r"^(?:/[a-z]/(?=\w)|n\d{8} +)")


def python_names(variable: str, source: bytes, origin: str) -> tuple[str, ...]:
    """The list of words that a Python file assigns to a name, at its top or in a class.

    The file is parsed, not executed.

    Args:
        variable: Name of the module's or class's variable.
        source: The file's content.
        origin: The file, for messages.

    Raises:
        WeightsError: No such list.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise WeightsError(f"{origin}: not a Python file: {error}") from error
    statements = list(tree.body)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            statements += node.body
    for node in statements:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == variable for target in node.targets
        ):
            try:
                return _words(ast.literal_eval(node.value), f"{origin}: {variable}")
            except (ValueError, TypeError) as error:
                raise WeightsError(f"{origin}: {variable} is no plain list: {error}") from error
    raise WeightsError(f"{origin}: {variable} is missing (is it another version of the package?)")


def audioset_names(
    table: bytes, origin: str, leave_out: Collection[str] = AUDIOSET_ONLY
) -> tuple[str, ...]:
    """``display_name`` of a table with ``index,mid,display_name``, without some kinds.

    Raises:
        WeightsError: Another table, or one without a kind that is to be left out.
    """
    rows = _table(table.decode("utf-8", "replace"), origin)
    if not rows or not {"mid", "display_name"} <= rows[0].keys():
        raise WeightsError(f"{origin}: not a table with mid and display_name")
    missing = set(leave_out) - {row["mid"] for row in rows}
    if missing:
        raise WeightsError(f"{origin}: {', '.join(sorted(missing))} missing (is it another list?)")
    return tuple(row["display_name"] for row in rows if row["mid"] not in leave_out)


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names from a file, in order.

    Args:
        path: ``.csv`` with a column ``display_name``, ``name``, ``label``, ``class`` or ``tag``
            (sorted by a column ``index`` if there is one), ``.json`` or ``.yml`` with a list of
            names or of entries that have one, or a JSON object from number to name; anything else
            is text with a name on each line. Prefixes of SoundNet's own lists are dropped.

    Raises:
        WeightsError: The file is missing or holds something else.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not a readable list of class names: {error}") from error
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            found = _column(_table(text, str(path)), str(path))
        elif kind == ".json":
            found = _listed(json.loads(text))
        elif kind in (".yml", ".yaml"):
            found = _listed(yaml.safe_load(text))
        else:
            found = [line.strip() for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(f"{path}: not a readable list of class names: {error}") from error
    return tuple(_PREFIX.sub("", name) for name in _words(found, str(path)))


def checked_count(names: tuple[str, ...], count: int, origin: str) -> tuple[str, ...]:
    """The names, if there are `count` of them.

    Raises:
        WeightsError: There are more or fewer.
    """
    if len(names) != count:
        raise WeightsError(f"{origin}: {len(names)} class names, the model has {count}")
    return names


def _words(value: Any, origin: str) -> tuple[str, ...]:
    if (
        not isinstance(value, (list, tuple))
        or not value
        or not all(isinstance(word, str) and word.strip() for word in value)
    ):
        raise WeightsError(f"{origin}: not a list of class names")
    return tuple(word.strip() for word in value)


def _table(text: str, origin: str) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True))
    except csv.Error as error:
        raise WeightsError(f"{origin}: not a readable table: {error}") from error
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise WeightsError(f"{origin}: row {number} has more or fewer fields than the header")
    return rows


def _column(rows: list[dict[str, str]], origin: str) -> list[str]:
    key = next((key for key in _KEYS if rows and key in rows[0]), "")
    if not key:
        raise WeightsError(f"{origin}: none of the columns {', '.join(_KEYS)}")
    if "index" in rows[0]:
        rows = sorted(rows, key=lambda row: int(row["index"]))
        if [int(row["index"]) for row in rows] != list(range(len(rows))):
            raise WeightsError(f"{origin}: index does not count from 0 without gaps")
    return [row[key] for row in rows]


def _listed(value: Any) -> list[Any]:
    """A list of names, of entries with a name, or an object from number to name."""
    if isinstance(value, dict):
        numbered = {int(number): name for number, name in value.items()}
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError("numbers do not count from 0 without gaps")
        value = [numbered[number] for number in range(len(numbered))]
    if not isinstance(value, list):
        raise ValueError("no list")
    return [_name_of(entry) for entry in value]


def _name_of(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    key = next((key for key in _KEYS if key in entry), "")
    if not key:
        raise ValueError(f"an entry has none of {', '.join(_KEYS)}")
    return entry[key]
