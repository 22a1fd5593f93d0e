"""MovingShapes: a generated set of real video files whose classes differ in motion alone.

Eight classes: slide (either way), rise, fall, orbit (either sense), approach, recede, shake, bounce. A mirrored video
is of the same class. Background, sprite, sizes, positions and a slow pan of the camera do not depend on the class, so
that a still frame tells nothing (:mod:`motionops.video.shape_scene` says how). The set is small enough to learn from
in minutes on a CPU, and its true optical flow is known.

    >>> folder = moving_shapes.generate()
    >>> flow = moving_shapes.true_flow(folder / "slide" / "slide_train_0000.mp4")    # [24, 2, 40, 40]
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from motionops.errors import UserError
from motionops.files import replace_text
from motionops.video import shape_scene
from motionops.video.cache import cache_folder, one_at_a_time
from motionops.video.encoding import ENCODERS, KEY_FRAME_EVERY, write_video
from motionops.video.progress import threads, with_progress
from motionops.video.shape_scene import CLASSES, Scene

__all__ = ["CLASSES", "default_folder", "generate", "scene", "true_flow"]

VERSION = 1  # raised when the code draws other files; a changed constant of the scene or the encoder shows by itself
DESCRIPTION = "moving_shapes.json"
SPLITS = ("train", "test")


def _recipe() -> str:
    """Eight letters that stand for all constants behind a file, so that a set of other constants is another set."""
    constants = {name: value for name, value in vars(shape_scene).items() if name.isupper()}
    text = repr((VERSION, sorted(constants.items(), key=lambda item: item[0]), ENCODERS, KEY_FRAME_EVERY))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Set:
    train: int
    test: int
    size: int
    frames: int
    seed: int
    codec: str
    recipe: str = field(default_factory=_recipe)


def default_folder(
    train: int = 768, test: int = 256, size: int = 40, frames: int = 24, seed: int = 0, codec: str = "h264"
) -> Path:
    """The folder of the set with these parameters, in :func:`motionops.video.cache.cache_folder`."""
    return cache_folder() / f"moving_shapes-{_recipe()}-{train}-{test}-{size}px-{frames}f-seed{seed}-{codec}"


def generate(
    folder: str | os.PathLike | None = None,
    train: int = 768,
    test: int = 256,
    size: int = 40,
    frames: int = 24,
    seed: int = 0,
    codec: str = "h264",
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write the set, unless it is there already, and return its folder.

    The folder gets ``<class>/<class>_<split>_<number>.mp4``, ``classes.txt`` (line number = label), ``train.txt`` and
    ``test.txt`` (``path label``), and last ``moving_shapes.json``, which says that it is complete. A generation that
    was killed is continued. Two processes that ask for the same folder do the work once.

    Args:
        folder: where; by default :func:`default_folder` of the other arguments.
        train, test: number of videos; classes take turns, so multiples of 8 are balanced.
        size: height and width in pixels, even.
        frames: frames a video.
        seed: all files are a function of the arguments; video i of a split depends on neither train, test nor workers.
        codec: ``"h264"`` or ``"mpeg4"``.
        workers: threads; by default one a core; 0 is one.
        progress: show a bar on stderr.

    Raises:
        UserError: an argument that makes no set, or a folder that holds another set.
        OSError: the folder cannot be written.
    """
    wanted = _checked(_Set(train, test, size, frames, seed, codec))
    folder = default_folder(train, test, size, frames, seed, codec) if folder is None else Path(folder)
    if _is_complete(folder, wanted):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / ".lock"):
        if not _is_complete(folder, wanted):
            _write_set(folder, wanted, threads(workers), progress)
    return folder


def scene(split: str, number: int, size: int = 40, frames: int = 24, seed: int = 0) -> Scene:
    """The scene behind video ``number`` of ``split`` ("train" or "test"); it renders frames, mask and true flow."""
    if split not in SPLITS:
        raise ValueError(f"moving_shapes.scene: split must be one of {SPLITS}, got {split!r}")
    label = number % len(CLASSES)
    return Scene(label, (VERSION, seed, SPLITS.index(split), number), size=size, frames=frames)


def true_flow(path: str | os.PathLike) -> torch.Tensor:
    """The true optical flow of a video of a generated set.

    Args:
        path: the video file, in the folder that :func:`generate` wrote.

    Returns:
        float32 ``[F, 2, H, W]``: channel 0 is u (pixels to the right), channel 1 is v (pixels down), from frame t to
        frame t + 1. The last entry leads to the frame that would follow.

    Raises:
        UserError: the file is not part of a complete set.
    """
    path = Path(path)
    name = re.fullmatch(r"[a-z]+_(train|test)_(\d+)", path.stem)
    try:
        description = json.loads((path.parent.parent / DESCRIPTION).read_text())
    except (OSError, ValueError):
        description = None
    if name is None or description is None:
        raise UserError(f"{path}: not a video of a complete MovingShapes set")
    return torch.from_numpy(
        scene(name[1], int(name[2]), description["size"], description["frames"], description["seed"]).flow()
    )


def _checked(wanted: _Set) -> _Set:
    for name, least in (("train", 1), ("test", 1), ("frames", 2), ("size", 16), ("seed", 0)):
        value = getattr(wanted, name)
        if not isinstance(value, int) or value < least:
            raise UserError(f"moving_shapes.generate: {name} must be an integer >= {least}, got {value!r}")
    if wanted.size % 2:
        raise UserError(f"moving_shapes.generate: size must be even, got {wanted.size}")
    if wanted.codec not in ENCODERS:
        raise UserError(f"moving_shapes.generate: codec must be one of {', '.join(ENCODERS)}, got {wanted.codec!r}")
    return wanted


def _is_complete(folder: Path, wanted: _Set) -> bool:
    try:
        found = json.loads((folder / DESCRIPTION).read_text())
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTION}: cannot be read: {error}") from error
    if found != asdict(wanted):
        raise UserError(f"{folder}: holds another MovingShapes set ({found}); choose another folder or remove it")
    return True


def _write_set(folder: Path, wanted: _Set, workers: int, progress: bool) -> None:
    """Write everything. What a killed run left is kept only where it was begun with the same parameters."""
    begun = folder / f"{DESCRIPTION}.begun"
    text = json.dumps(asdict(wanted), indent=2) + "\n"
    keep = begun.exists() and begun.read_text() == text
    if not keep:
        others = [entry.name for entry in folder.iterdir() if entry.name not in (".lock", begun.name)]
        if others and not begun.exists():
            raise UserError(
                f"{folder}: is not empty and holds no MovingShapes set ({others[0]}); choose another folder"
            )
        begun.write_text(text)
    for name in CLASSES:
        (folder / name).mkdir(exist_ok=True)

    videos = [(split, number) for split in SPLITS for number in range(getattr(wanted, split))]

    def write(video: tuple[str, int]) -> None:
        path = folder / _relative_path(*video)
        if not (keep and path.exists()):
            write_video(path, scene(*video, wanted.size, wanted.frames, wanted.seed).render(), codec=wanted.codec)

    # Threads are enough: NumPy's and the encoder's work is done outside the interpreter's lock.
    with ThreadPoolExecutor(workers) as pool:
        try:
            for _ in with_progress(pool.map(write, videos), len(videos), "MovingShapes", progress):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    replace_text(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    for split in SPLITS:
        numbers = range(getattr(wanted, split))
        lines = (f"{_relative_path(split, number)} {number % len(CLASSES)}\n" for number in numbers)
        replace_text(folder / f"{split}.txt", "".join(lines))
    replace_text(folder / DESCRIPTION, text)
    begun.unlink()


def _relative_path(split: str, number: int) -> str:
    name = CLASSES[number % len(CLASSES)]
    return f"{name}/{name}_{split}_{number:04d}.mp4"
