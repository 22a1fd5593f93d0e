"""The text of list files as people save them: UTF-8, UTF-16 as Windows writes it, or bytes of another encoding."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from motionops.errors import UserError

# UTF-32 first: its mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def read_text(file: str) -> str:
    """The text of a list file, without its byte-order mark.

    Bytes that are no UTF-8 are kept as Python keeps them in file names (``surrogateescape``): a list that was written
    on the disk that holds the videos names them so.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        data = Path(file).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: no such list") from None
    except IsADirectoryError:
        raise UserError(f"{file}: is a folder, not a list") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UserError(f"{file}: is not whole {encoding.upper()} ({error.reason}); save it as UTF-8") from None
        if NO_TEXT.search(data) or 2 * sum(byte < 0x80 for byte in data) < len(data):
            raise UserError(f"{file}: is not a text file") from None
        return data.decode(encoding, errors="surrogateescape")
    if "\0" in text:
        raise UserError(f"{file}: is not a text file")
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text, stripped; names may hold what Python's ``splitlines`` takes for the end of a line."""
    return [line.strip() for line in re.split(r"\r\n|\n|\r", text)]


def is_comment(line: str) -> bool:
    """Whether a line begins with ``#`` and no name: names of HMDB51 begin so (``#20_Rhythm_clap_u_nm_np1.avi``)."""
    return re.match(r"#(\s|#|$)", line) is not None


def read_lines(file: str) -> list[str]:
    """The lines of a list file that say something, stripped."""
    return [line for line in lines_of(read_text(file)) if line and not is_comment(line)]


def _unmarked(data: bytes) -> str:
    """UTF-16 without a mark has zeros beside its ASCII letters."""
    start = data[:1000]
    if len(start) >= 2 and len(start) % 2 == 0:
        even, odd = start[0::2].count(0), start[1::2].count(0)
        if max(even, odd) > len(start) / 4 and min(even, odd) == 0:
            return "utf-16-be" if even else "utf-16-le"
    return "utf-8"
