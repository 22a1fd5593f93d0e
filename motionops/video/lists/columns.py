"""What the columns of a plain list are: as somebody says, as its header says, or a path and a label."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from motionops.errors import UserError
from motionops.video.list_lines import SUFFIX_PATTERN, SUFFIXES

ListColumn = Literal["path", "frames", "label", "labels", "ignore"]
COLUMNS = get_args(ListColumn)
HEADER_WORDS = {
    "path": ("path", "video", "file", "filename", "name", "filepath", "videopath", "videoname", "clip"),
    "frames": ("frames", "numframes", "nframes", "nbframes", "framecount", "totalframes", "length"),
    "label": ("label", "class", "classid", "classname", "category", "labelid", "labelname", "target", "action"),
    "labels": ("labels", "classes", "categories"),
}
SEPARATORS = {",": (r"[ \t]*,[ \t]*", r"[^,]*"), "\t": (r"[ ]*\t[ ]*", r"[^\t]*"), " ": (r"[ \t,]+", r"[^ \t,]+")}

_AFTER_THE_PATH = re.compile(rf"^.*(?:{SUFFIX_PATTERN})[ \t,]+([^ \t,].*)$", re.IGNORECASE)


class Entry(NamedTuple):
    """A line of a list: the path as it stands there, and the labels, None where there is no column of several."""

    path: str
    label: str | None
    labels: tuple[str, ...] = ()


def named_columns(columns: str | Sequence[str]) -> tuple[str, ...]:
    """The columns that somebody names. UserError for names that there are none of, or that do not go together."""
    names = tuple(name.strip() for name in (columns.split(",") if isinstance(columns, str) else columns))
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise UserError(f"--list-columns: unknown column {unknown[0]!r}; choose of: {', '.join(COLUMNS)}")
    if names.count("path") != 1 or sum(names.count(name) for name in ("label", "labels")) > 1:
        raise UserError(f"--list-columns: one path and at most one label or labels, got {','.join(names)}")
    if "labels" in names[:-1]:
        raise UserError(f"--list-columns: labels are all that follows, so they come last, got {','.join(names)}")
    return names


def header_columns(file: str, line: str) -> tuple[str, ...] | None:
    """The columns that a list's first line names; None where it is no header."""
    fields = quoted_fields(line) or re.split(r"[ \t]*[,;\t][ \t]*|[ \t]+", line)
    words = [re.sub(r"[ _#-]", "", field.lower()) for field in fields]
    kinds = [next((kind for kind, known in HEADER_WORDS.items() if word in known), "ignore") for word in words]
    if "path" not in kinds or (len(kinds) > 1 and set(kinds) <= {"path", "ignore"}):
        return None
    if any(field.lower().endswith(SUFFIXES) for field in fields):
        return None
    kinds = [kind if kind != "path" or place == kinds.index("path") else "ignore" for place, kind in enumerate(kinds)]
    if sum(kind in ("label", "labels") for kind in kinds) > 1 or "labels" in kinds[:-1]:
        raise UserError(f"{file}: its header ({line!r}) names several labels; --list-columns says which is meant")
    return tuple(kinds)


def separator_of(lines: Sequence[str], columns: int) -> str:
    """What stands between the columns of all lines: commas, else tabs, else blanks."""
    plain = [line for line in lines if not line.startswith('"')]
    return next((sign for sign in (",", "\t") if all(line.count(sign) >= columns - 1 for line in plain)), " ")


class ByColumns:
    """Reads lines whose columns are known.

    Args:
        columns: their names.
        separator: a key of :data:`SEPARATORS`.
    """

    def __init__(self, columns: Sequence[str], separator: str) -> None:
        self.columns = columns
        self.patterns = [self._pattern(path, separator) for path in (rf".*(?:{SUFFIX_PATTERN})", r".+")]

    def _pattern(self, path: str, separator: str) -> re.Pattern:
        between, field = SEPARATORS[separator]
        pattern = ""
        for place, name in enumerate(self.columns):
            last = place == len(self.columns) - 1 and place
            kind = {"path": path, "frames": r"\d+"}.get(name, r".*" if last else field)
            group = f"(?P<{name}>{kind})" if name != "ignore" else f"(?:{kind})"
            if name == "labels":
                pattern += f"(?:{between}{group})?"
            else:
                pattern += (between if place else "") + group
        return re.compile(rf"^{pattern}$", re.IGNORECASE)

    def entry(self, line: str) -> Entry | None:
        """The entry of a line; None where it does not have the columns."""
        fields = quoted_fields(line)
        if fields:
            return self._of_fields(fields)
        for pattern in self.patterns:
            match = pattern.match(line)
            if match:
                found = {name: (value or "").strip(" \t,") for name, value in match.groupdict().items()}
                return self._made(found)
        return None

    def _of_fields(self, fields: list[str]) -> Entry | None:
        columns = self.columns
        several = columns[-1] == "labels"
        if len(fields) != len(columns) and not (several and len(fields) >= len(columns) - 1):
            return None
        found = {name: field.strip() for name, field in zip(columns, fields, strict=False)}
        if several:
            found["labels"] = ",".join(fields[len(columns) - 1 :])
        if "frames" in found and not found["frames"].isdecimal():
            return None
        return self._made(found)

    @staticmethod
    def _made(found: dict[str, str]) -> Entry:
        if "labels" not in found:
            return Entry(found["path"], found.get("label") or None)
        sign = next((sign for sign in ",;|\t" if sign in found["labels"]), None)
        labels = tuple(label.strip() for label in found["labels"].split(sign) if label.strip())
        return Entry(found["path"], labels[0] if len(labels) == 1 else None, labels)


def quoted_fields(line: str) -> list[str] | None:
    """The fields of a line that has any in quotes, as csv writes them; None of another line."""
    if not re.search(r'(^|[,\t;])[ \t]*"', line):
        return None
    outside = re.sub(r'"[^"]*"', "", line)
    sign = next((sign for sign in ",\t;" if sign in outside), " ")
    try:
        (fields,) = csv.reader([line], delimiter=sign, skipinitialspace=True, strict=True)
    except csv.Error:
        return None
    return [field.strip() for field in fields]


def third_column(lines: Sequence[str]) -> str | None:
    """A line with more than a path and a label, where such lines can only be meant so; None where there is none."""
    quoted = [line for line in lines if len(quoted_fields(line) or ()) > 2]
    if quoted:
        return quoted[0]
    found = [match[1] if (match := _AFTER_THE_PATH.match(line)) else None for line in lines]
    for line, rest in zip(lines, found, strict=True):
        if rest is not None and re.fullmatch(r"\d+([ \t,]+\d+)+", rest):
            return line
    if not lines:
        return None
    if all(rest is not None and re.match(r"\d+[ \t,]+[^ \t,]", rest) for rest in found):
        return lines[0]
    if all(rest is not None and re.search(r"[^ \t,][ \t]*[,\t][ \t]*[^ \t,]", rest) for rest in found):
        return lines[0]
    if all(re.search(r"[ \t,]\d+[ \t,]+\d+$", line) for line in lines):
        return lines[0]
    return None
