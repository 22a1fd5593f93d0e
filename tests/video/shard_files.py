"""Tars of videos, as ``tar`` and WebDataset's writer make them."""

import io
import tarfile
from pathlib import Path


def write_tar(tar: Path, members: dict[str, bytes | Path], format=tarfile.GNU_FORMAT) -> Path:
    """A tar of members by name: bytes, or what a file holds."""
    with tarfile.open(tar, "w", format=format) as archive:
        for name, content in members.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            held = tarfile.TarInfo(name)
            held.size = len(data)
            archive.addfile(held, io.BytesIO(data))
    return tar


def in_shards(folder: Path, videos, count: int, root: Path) -> None:
    """The videos of a list in ``count`` tars of its order: ``key.mp4`` with ``key.cls``, keys as below ``root``."""
    folder.mkdir(parents=True, exist_ok=True)
    share = -(-len(videos) // count)
    for number in range(count):
        members: dict[str, bytes | Path] = {}
        for video in videos[number * share : (number + 1) * share]:
            name = Path(video.path).relative_to(root).as_posix()
            members[name] = Path(video.path)
            members[name.removesuffix(".mp4") + ".cls"] = str(video.label).encode()
        write_tar(folder / f"{number:03d}.tar", members)
