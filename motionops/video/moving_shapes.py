"""MovingShapes: a generated set of real video files whose classes differ in motion alone.

Eight classes: slide (either way), rise, fall, orbit (either sense), approach, recede, shake, bounce. A mirrored video
is of the same class. Background, sprite, sizes, positions and a slow pan of the camera do not depend on the class, so
that a still frame tells nothing (:mod:`motionops.video.shape_scene` says how). The set is small enough to learn from
in minutes on a CPU, and its true optical flow is known.

A set of several acts has longer videos, each of several different motions one after the other: clips of one video then
differ in motion. Its class is their order (rise-slide, slide-rise), and ``<split>_acts.txt`` says what moves when.

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
from itertools import permutations
from pathlib import Path

import torch

from motionops.errors import UserError
from motionops.files import replace_text
from motionops.video import shape_scene
from motionops.video.cache import cache_folder, in_cache_folder, one_at_a_time
from motionops.video.encoding import ENCODERS, KEY_FRAME_EVERY, write_video
from motionops.video.progress import threads, with_progress
from motionops.video.shape_scene import CLASSES, Scene

__all__ = ["ACTS", "CLASSES", "classes", "default_folder", "generate", "scene", "true_flow"]

VERSION = 1  # raised when the code draws other files; a changed constant of the scene or the encoder shows by itself
DESCRIPTION = "moving_shapes.json"
SPLITS = ("train", "test")
# Motions of acts: those that look the same at any time, so that any part of an act shows which one it is.
ACTS = ("slide", "rise", "fall", "approach", "recede")


def _recipe() -> str:
    """Eight letters that stand for all constants behind a file, so that a set of other constants is another set."""
    constants = {name: value for name, value in vars(shape_scene).items() if name.isupper()}
    text = repr((VERSION, sorted(constants.items(), key=lambda item: item[0]), ENCODERS, KEY_FRAME_EVERY, ACTS))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Set:
    train: int
    test: int
    size: int
    frames: int
    seed: int
    codec: str
    acts: int = 1
    ramp: float = 0.0
    recipe: str = field(default_factory=_recipe)


def default_folder(
    train: int = 768,
    test: int = 256,
    size: int = 40,
    frames: int = 24,
    seed: int = 0,
    codec: str = "h264",
    acts: int = 1,
    ramp: float = 0.0,
) -> Path:
    """The folder of the set with these parameters, in :func:`motionops.video.cache.cache_folder`."""
    name = f"moving_shapes-{_recipe()}-{train}-{test}-{size}px-{frames}f-seed{seed}-{codec}"
    name += f"-{acts}acts" * (acts > 1) + f"-ramp{ramp:g}" * (ramp > 0)
    return cache_folder() / name


def classes(acts: int = 1) -> list[tuple[str, ...]]:
    """The motions of each class, in the order of labels: all orders of ``acts`` different motions of :data:`ACTS`."""
    return [(name,) for name in CLASSES] if acts == 1 else list(permutations(ACTS, acts))


def generate(
    folder: str | os.PathLike | None = None,
    train: int = 768,
    test: int = 256,
    size: int = 40,
    frames: int = 24,
    seed: int = 0,
    codec: str = "h264",
    acts: int = 1,
    ramp: float = 0.0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write the set, unless it is there already, and return its folder.

    The folder gets ``<class>/<class>_<split>_<number>.mp4``, ``classes.txt`` (line number = label), ``train.txt`` and
    ``test.txt`` (``path label``), and last ``moving_shapes.json``, which says that it is complete. A generation that
    was killed is continued. Two processes that ask for the same folder do the work once.

    With several acts it also gets ``train_acts.txt`` and ``test_acts.txt``: a line an act, ``path first last motion``,
    of the first frame and the one after the last.

    Args:
        folder: where; by default :func:`default_folder` of the other arguments.
        train, test: number of videos; classes take turns, so multiples of 8 are balanced, or of 20 with two acts.
        size: height and width in pixels, even.
        frames: frames an act; a video has ``acts`` times as many.
        seed: all files are a function of the arguments; video i of a split depends on neither train, test nor workers.
        codec: ``"h264"`` or ``"mpeg4"``.
        acts: motions of a video, one after the other and all different, 1 to 5.
        ramp: most that the light of a video changes from its first frame to its last, as a share of it, 0 to 1: each
            video's change is drawn. It says which part of a video a clip is from, and nothing of what moves.
        workers: threads; by default one a core; 0 is one.
        progress: show a bar on stderr.

    Raises:
        UserError: an argument that makes no set, or a folder that holds another set.
        OSError: the folder cannot be written.
    """
    wanted = _checked(_Set(train, test, size, frames, seed, codec, acts, ramp))
    cached = folder is None
    folder = default_folder(train, test, size, frames, seed, codec, acts, ramp) if cached else Path(folder)
    if _is_complete(folder, wanted):
        return folder
    if cached:
        in_cache_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / ".lock"):
        if not _is_complete(folder, wanted):
            _write_set(folder, wanted, threads(workers), progress)
    return folder


def scene(
    split: str, number: int, size: int = 40, frames: int = 24, seed: int = 0, acts: int = 1, ramp: float = 0.0
) -> Scene:
    """The scene behind video ``number`` of ``split`` ("train" or "test"); it renders frames, mask and true flow."""
    if split not in SPLITS:
        raise ValueError(f"moving_shapes.scene: split must be one of {SPLITS}, got {split!r}")
    own = (VERSION, seed, SPLITS.index(split), number)
    if acts == 1:
        return Scene(number % len(CLASSES), own, size=size, frames=frames, ramp=ramp)
    names = classes(acts)[number % len(classes(acts))]
    label = tuple(CLASSES.index(name) for name in names)
    return Scene(label, (*own, acts), size=size, frames=acts * frames, ramp=ramp)


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
    name = re.fullmatch(r"[a-z-]+_(train|test)_(\d+)", path.stem)
    try:
        description = json.loads((path.parent.parent / DESCRIPTION).read_text())
    except (OSError, ValueError):
        description = None
    if name is None or description is None:
        raise UserError(f"{path}: not a video of a complete MovingShapes set")
    arguments = {key: description[key] for key in ("size", "frames", "seed", "acts", "ramp")}
    return torch.from_numpy(scene(name[1], int(name[2]), **arguments).flow())


def _checked(wanted: _Set) -> _Set:
    for name, least in (("train", 1), ("test", 1), ("frames", 2), ("size", 16), ("seed", 0), ("acts", 1)):
        value = getattr(wanted, name)
        if not isinstance(value, int) or value < least:
            raise UserError(f"moving_shapes.generate: {name} must be an integer >= {least}, got {value!r}")
    if wanted.size % 2:
        raise UserError(f"moving_shapes.generate: size must be even, got {wanted.size}")
    if wanted.acts > len(ACTS):
        raise UserError(f"moving_shapes.generate: acts must be at most {len(ACTS)}, got {wanted.acts}")
    if not isinstance(wanted.ramp, int | float) or not 0 <= wanted.ramp <= 1:
        raise UserError(f"moving_shapes.generate: ramp must be in [0, 1], got {wanted.ramp!r}")
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
    names = ["-".join(motions) for motions in classes(wanted.acts)]
    for name in names:
        (folder / name).mkdir(exist_ok=True)

    videos = [(split, number) for split in SPLITS for number in range(getattr(wanted, split))]

    def write(video: tuple[str, int]) -> None:
        path = folder / _relative_path(*video, wanted.acts)
        if not (keep and path.exists()):
            drawn = scene(*video, wanted.size, wanted.frames, wanted.seed, wanted.acts, wanted.ramp)
            write_video(path, drawn.render(), codec=wanted.codec)

    # Threads are enough: NumPy's and the encoder's work is done outside the interpreter's lock.
    with ThreadPoolExecutor(workers) as pool:
        try:
            for _ in with_progress(pool.map(write, videos), len(videos), "MovingShapes", progress):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    replace_text(folder / "classes.txt", "".join(f"{name}\n" for name in names))
    for split in SPLITS:
        paths = [_relative_path(split, number, wanted.acts) for number in range(getattr(wanted, split))]
        lines = (f"{path} {number % len(names)}\n" for number, path in enumerate(paths))
        replace_text(folder / f"{split}.txt", "".join(lines))
        if wanted.acts > 1:
            replace_text(folder / f"{split}_acts.txt", "".join(_act_lines(path, wanted.frames) for path in paths))
    replace_text(folder / DESCRIPTION, text)
    begun.unlink()


def _relative_path(split: str, number: int, acts: int) -> str:
    name = "-".join(classes(acts)[number % len(classes(acts))])
    return f"{name}/{name}_{split}_{number:04d}.mp4"


def _act_lines(path: str, frames: int) -> str:
    """What moves when: `path first last motion`, a line an act."""
    motions = path.partition("/")[0].split("-")
    return "".join(f"{path} {act * frames} {(act + 1) * frames} {name}\n" for act, name in enumerate(motions))
