"""Plain lists: one video a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from motionops.errors import UserError
from motionops.video.list_lines import SUFFIXES, Video, as_label, locate, split_line
from motionops.video.lists.columns import ByColumns, Entry, header_columns, quoted_fields, separator_of, third_column
from motionops.video.lists.shards import located_shards, videos_of_shards
from motionops.video.lists.text import is_comment, read_lines
from motionops.video.sources import exists
from motionops.video.sources.addresses import is_tar


def read_plain_list(file: str, root: str | None, columns: Sequence[str] | None = None) -> list[Video]:
    """The videos of a plain list; arguments and errors as :func:`motionops.video.read_list`."""
    lines = read_lines(file)
    if len(lines) > 1:
        header = header_columns(file, lines[0])
        # One word is a header where the names below it are another kind of name.
        if header and (len(header) > 1 or lines[1].lower().endswith(SUFFIXES)):
            columns = columns or header
            lines = lines[1:]
    lines = [line for line in lines if not line.startswith("#") or is_a_name(line, file, root)]
    if columns is None:
        _require_two_columns(file, lines)
        entries = map(_path_and_label, lines)
    else:
        entries = _by_columns(file, lines, columns)
    return [video for entry in entries for video in _videos(entry, file, root)]


def _videos(entry: Entry, file: str, root: str | None) -> list[Video]:
    """That of a line; of one that names shards all in them, whose labels are the line's where it has any."""
    label = None if entry.label is None else as_label(entry.label)
    labels = tuple(map(as_label, entry.labels))
    if not is_tar(entry.path):
        return [Video(locate(entry.path, file, root), label, labels=labels)]
    found = videos_of_shards(located_shards(entry.path, file, root))
    return [replace(video, label=label, labels=labels) for video in found] if label or labels else found


def _by_columns(file: str, lines: Sequence[str], columns: Sequence[str]) -> Iterator[Entry]:
    reader = ByColumns(columns, separator_of(lines, len(columns)))
    for line in lines:
        entry = reader.entry(line)
        if entry is None:
            raise UserError(f"{file}: {line!r} does not have the columns {','.join(columns)} (--list-columns)")
        yield entry


def _require_two_columns(file: str, lines: Sequence[str]) -> None:
    line = third_column(lines)
    if line is not None:
        raise UserError(
            f"{file}: {line!r} has a third column; --list-columns path,frames,label says that it is a label behind a "
            "number of frames, --list-columns path,labels that all that follows are labels"
        )


def _path_and_label(line: str) -> Entry:
    fields = quoted_fields(line)
    return Entry(fields[0], (fields[1] or None) if len(fields) > 1 else None) if fields else Entry(*split_line(line))


def is_a_name(line: str, file: str, root: str | None) -> bool:
    """Whether a line that begins with ``#`` names a video and is not a line that somebody has taken out."""
    if is_comment(line):
        return False
    path = split_line(line)[0]
    if exists(locate(path, file, root)):
        return True
    return path.lower().endswith(SUFFIXES) and not exists(locate(path[1:], file, root))
