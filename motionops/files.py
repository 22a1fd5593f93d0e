"""Files that are whole: small ones written so, archives asked whether they still are."""

from __future__ import annotations

import fcntl
import itertools
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A name beside a file, under which to write what takes its place when the context ends without an error.

    A reader, or a cut, sees the former file or the new one, not half. What a killed process left under such a name is
    written over by the next one that writes the file; a name that a living one holds is not touched.
    """
    for number in itertools.count():
        partial = path.with_name(f".{path.stem}.partial{number or ''}{path.suffix}")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError:  # a file system without locks: a name of this process alone
            partial.unlink(missing_ok=True)
            partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        break
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole. Names of files that are no UTF-8 are written as the bytes that they are."""
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")


def damage(path: str | os.PathLike) -> str | None:
    """What is wrong with an archive of ``torch.save``, each part of which has a check sum; None where all is well.

    ``torch.load`` does not look at them: one flipped bit is a wrong weight. A file that is no such archive is not
    judged.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # zipfile has one for each thing that can be wrong
        return str(error) or type(error).__name__
    return None if part is None else f"the check sum of {part} is another one"
