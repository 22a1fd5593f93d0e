"""Decoding with NVIDIA DALI: on the GPU where there is one, else on the CPU.

A worker process reads a file's bytes and chooses frames as it does for PyAV (:class:`EncodedReader`); the training
process decodes a batch of them at once (:class:`DALIDecoder`), so frames of a GPU's decoder never leave the GPU.

DALI finds frames by the time stamps of the packets. Its frame n is PyAV's where the file stores a time of its own, not
negative, for every packet, and there are as many packets as frames that decode. That is looked at in each file; one of
which it is not true (MPEG-4 in AVI, a file that was cut since it was counted), or of a kind that the device cannot
decode, is read with PyAV in the worker, and the item says why: nothing is dropped, and no number means another frame.

Of a video whose key frames are known the worker sends only the packets from the key frame before the first clip on, as
a file of their own: a late clip is decoded from there, whatever the decoder makes of the file, and long files fit.

DALI converts with the matrix of BT.601 whatever the file says; frames of BT.709 are corrected here. It interpolates the
colour planes of 4:2:0 video linearly, PyAV repeats them: frames differ at edges of colour, not in brightness.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from motionops.errors import UserError
from motionops.video.counting.key_frames import NOT_KNOWN, KeyFrames
from motionops.video.readers.batch import KnownVideo, Plan
from motionops.video.readers.frame_reader import FrameReader
from motionops.video.readers.piece import cut_piece
from motionops.video.readers.squares import Squares
from motionops.video.reading import Coding, VideoError, read_coding, read_frames, require_room
from motionops.video.sources import open_bytes
from motionops.video.upright import AS_STORED, Turn

MOST_BYTES = 64 << 20  # of a file that is sent to the training process whole
GPU_SESSIONS = 7  # an H100 has so many decoding engines

CPU_CODECS = ("vp8", "vp9", "mjpeg")
# The smallest sides that the GPU's decoder takes (NVDEC programming guide, table of capabilities).
GPU_SMALLEST = {
    "h264": (16, 48),
    "hevc": (144, 144),
    "vp8": (16, 48),
    "vp9": (128, 128),
    "av1": (128, 128),
    "mpeg4": (16, 48),
}
# Containers that store when each frame is shown; and codecs that put frames out in the order of their packets.
STORES_TIMES = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
IN_ORDER = ("vp8", "vp9", "mjpeg")
SAMPLED_AS_420 = ("yuv420p", "yuvj420p")
CPU_FORMATS = (*SAMPLED_AS_420, "yuv444p")

# Colour matrices by their numbers in ITU-T H.273: what DALI takes all video for, and the other one that it is corrected
# to. 2 is "unspecified", which both take for BT.601.
BT709 = 1
BT601 = (2, 5, 6)
LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # of red and blue


def require_dali() -> None:
    """UserError with the command to type where DALI is not installed."""
    if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
        version = torch.version.cuda or "13"
        extra = "dali-cuda12" if version.startswith("12") else "dali-cuda13"
        raise UserError(f"--decoder dali: DALI is not installed: pip install 'motionops[{extra}]'")


def unsupported(coding: Coding, gpu: bool) -> str | None:
    """Why DALI cannot decode a file on the GPU, or on the CPU; None where it can."""
    place = "GPU" if gpu else "CPU"
    if coding.codec not in (GPU_SMALLEST if gpu else CPU_CODECS):
        return f"DALI on the {place} does not decode {coding.codec}"
    if coding.pixel_format not in (SAMPLED_AS_420 if gpu else CPU_FORMATS):
        return f"DALI on the {place} does not decode {coding.pixel_format}"
    if coding.colours not in (BT709, *BT601):
        return f"DALI does not know the colour matrix {coding.colours}"
    if gpu:
        height, width = GPU_SMALLEST[coding.codec]
        if coding.height < height or coding.width < width:
            return f"the GPU decodes {coding.codec} from {height}x{width} pixels on"
        if coding.height % 2 or coding.width % 2:
            return "DALI on the GPU decodes pictures of even height and width"
    return None


def misnumbered(coding: Coding, frame_count: int) -> str | None:
    """Why DALI could number the frames of a file in another way than PyAV; None where it cannot."""
    stamps = coding.stamps
    if coding.container not in STORES_TIMES and coding.codec not in IN_ORDER:
        return f"{coding.codec} in {coding.container}, where frames have no stored times, by which DALI finds them"
    if any(stamp is None or stamp < 0 for stamp in stamps):
        return "has packets without a time, by which DALI finds frames"
    if len(set(stamps)) < len(stamps):
        return "has packets of the same time, by which DALI finds frames"
    if len(stamps) != frame_count:
        return f"has {len(stamps)} packets for {frame_count} frames"
    return None


@dataclass
class EncodedClip:
    """Frames of a file that are still to be decoded.

    Attributes:
        path: of the file.
        data: uint8 ``[bytes]``, the file, or a part of it as a file of its own.
        numbers: int64 ``[V, T]`` or ``[N]``, of the frames.
        stored: int64, the numbers that these frames have in ``data``.
        codec: of the stream.
        picture: (H, W) as stored.
        turn: makes the picture upright.
        bt709: whether its colours are those of BT.709, not BT.601.
    """

    path: str
    data: torch.Tensor
    numbers: torch.Tensor
    stored: torch.Tensor
    codec: str
    picture: tuple[int, int]
    turn: Turn = AS_STORED
    bt709: bool = False

    @property
    def kind(self) -> tuple:
        """Codec and size, to the pixel: decoders of sizes within one macroblock are not the same."""
        return self.codec, *self.picture

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the decoded frames, ``[V, T, H, W, 3]`` or ``[N, H, W, 3]``."""
        return (*self.numbers.shape, *self.turn.size(*self.picture), 3)


@dataclass
class ReadByPyAV:
    """Frames ``[V, T, H, W, 3]`` or ``[N, H, W, 3]`` of a file that is not for DALI, and why."""

    path: str
    frames: torch.Tensor
    reason: str

    @property
    def shape(self) -> torch.Size:
        """Of the frames."""
        return self.frames.shape


class EncodedReader(FrameReader):
    """Reads files for :class:`DALIDecoder`, in any process: the frames are :class:`EncodedClip`.

    Args:
        gpu: whether the GPU will decode.

    A file that DALI cannot decode, or whose frames it would number in another way, becomes :class:`ReadByPyAV`.

    Raises (when called):
        VideoError: the file cannot be read, as of :func:`motionops.video.read_frames`.
    """

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu

    def whole(self, video: KnownVideo, most_bytes: int) -> None:
        return None

    def read(self, video: KnownVideo, plan: Plan, whole: None) -> tuple[EncodedClip | ReadByPyAV, Any]:
        numbers = plan.frames.clamp(max=video.frames - 1)
        if isinstance(plan.own, Squares):  # behind the others, until their squares are cut
            numbers = torch.cat([numbers.flatten(), plan.own.numbers.clamp(max=video.frames - 1)])
        return self.clip(video.path, numbers, video.frames, video.keys), plan.own

    def clip(
        self, path: str, numbers: torch.Tensor, frame_count: int, keys: KeyFrames = NOT_KNOWN
    ) -> EncodedClip | ReadByPyAV:
        """The frames ``numbers [...]`` of a file, still to be decoded where DALI can decode them."""
        wanted, places = torch.unique(numbers, return_inverse=True)
        piece = cut_piece(path, wanted.tolist(), keys)
        coding = read_coding(path, packets=piece is None)
        reason = unsupported(coding, self.gpu)
        stored, turn = numbers, coding.turn
        if piece is None:
            data = self._bytes(path)
            reason = reason or misnumbered(coding, frame_count)
        else:
            data = torch.frombuffer(bytearray(piece.data), dtype=torch.uint8) if len(piece.data) <= MOST_BYTES else None
            stored, turn = torch.tensor(piece.numbers)[places], piece.turn
        if data is None:
            reason = reason or f"is larger than the {MOST_BYTES >> 20} MiB that are kept in memory for DALI"
        if reason:
            return ReadByPyAV(path, read_frames(path, numbers, keys), reason)
        picture = (coding.height, coding.width)
        require_room(path, len(wanted), *picture)
        return EncodedClip(path, data, numbers, stored, coding.codec, picture, turn, coding.colours == BT709)

    def _bytes(self, path: str) -> torch.Tensor | None:
        try:
            with open_bytes(path) as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise VideoError(path, error.strerror or str(error)) from error
        return None if len(data) > MOST_BYTES else torch.frombuffer(bytearray(data), dtype=torch.uint8)


class DALIDecoder:
    """Decodes batches of :class:`EncodedClip` with several sessions at once, each a DALI pipeline that is kept.

    A GPU has several decoders (seven engines on an H100), and a session uses one at a time. Clips of one codec and size
    go to the session that had such clips last, so that its decoder need not be made anew.

    Args:
        batch_size: the most clips in a call.
        threads: that decode, of all sessions together.
        device: a GPU, whose decoder is used and where the frames stay; or the CPU.
        sessions: at once; by default 7 on a GPU, on the CPU one, whose threads share the clips.

    Raises:
        UserError: DALI is not installed.
    """

    def __init__(
        self,
        batch_size: int,
        threads: int = 1,
        device: torch.device | str = "cpu",
        sessions: int | None = None,
    ) -> None:
        require_dali()
        self.device = torch.device(device)
        count = min(batch_size, sessions or (GPU_SESSIONS if self.device.type == "cuda" else 1))
        threads = max(-(-max(threads, 1) // count), 1)
        self.sessions = [_Session(batch_size, threads, self.device) for _ in range(count)]

    def __call__(self, clips: list[EncodedClip]) -> list[torch.Tensor | VideoError]:
        """Frames uint8 ``[..., H, W, 3]`` of each clip on the device, or why a file cannot be decoded.

        An error ends a DALI pipeline; the clips of its session are then decoded one by one, to find the one at fault.
        """
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        shares = [
            (session, places) for session, places in zip(self.sessions, self.shared_out(clips), strict=True) if places
        ]
        results: list[torch.Tensor | VideoError | None] = [None] * len(clips)

        def decode(share: tuple[_Session, list[int]]) -> None:
            session, places = share
            with torch.cuda.stream(stream):  # of None: as it is
                decoded = session.decode([clips[place] for place in places])
            for place, frames in zip(places, decoded, strict=True):
                results[place] = frames

        if len(shares) < 2:
            for share in shares:
                decode(share)
            return results
        with ThreadPoolExecutor(len(shares), thread_name_prefix="dali session") as threads:
            list(threads.map(decode, shares))
        return results

    def shared_out(self, clips: Sequence[EncodedClip]) -> list[list[int]]:
        """The places of the clips that each session decodes: as many each, and of one kind where that can be."""
        most = -(-len(clips) // len(self.sessions))
        shares: list[list[int]] = [[] for _ in self.sessions]
        kinds = [session.kind for session in self.sessions]
        for place in sorted(range(len(clips)), key=lambda place: (clips[place].kind, place)):
            kind = clips[place].kind

            def suits(number: int, kind: tuple = kind) -> tuple:
                """Room first, then the kind, then a session that has nothing else to do."""
                return len(shares[number]) >= most, kinds[number] != kind, len(shares[number])

            number = min(range(len(shares)), key=suits)
            shares[number].append(place)
            kinds[number] = kind
        return shares

    def close(self) -> None:
        """Free the pipelines with their threads and memory; the next call builds them again."""
        for session in self.sessions:
            session.close()


class _Session:
    """One DALI pipeline, for one thread at a time.

    `kind` is that of the last clip that it decoded.
    """

    def __init__(self, batch_size: int, threads: int, device: torch.device) -> None:
        self.batch_size, self.threads, self.device = batch_size, threads, device
        self.kind: tuple | None = None
        self._pipeline: Any = None

    def decode(self, clips: list[EncodedClip]) -> list[torch.Tensor | VideoError]:
        """As the decoder's call, of some clips."""
        try:
            return self._decode(clips)
        except RuntimeError as error:
            self.close()
            if len(clips) > 1:
                return [self.decode([clip])[0] for clip in clips]
            return [VideoError(clips[0].path, f"DALI: {_cause(error)}")]

    def close(self) -> None:
        self._pipeline = self.kind = None

    def _decode(self, clips: list[EncodedClip]) -> list[torch.Tensor | VideoError]:
        if self._pipeline is None:
            self._pipeline = self._build()
        self.kind = clips[-1].kind
        # Views overlap: each frame is decoded once.
        chosen = [torch.unique(clip.stored, return_inverse=True) for clip in clips]
        self._pipeline.feed_input("encoded", [clip.data.numpy() for clip in clips])
        self._pipeline.feed_input("numbers", [numbers.numpy().astype(np.int32) for numbers, _ in chosen])
        (decoded,) = self._pipeline.run()
        results: list[torch.Tensor | VideoError] = []
        for place, (clip, (numbers, where)) in enumerate(zip(clips, chosen, strict=True)):
            expected = [len(numbers), *clip.picture, 3]
            if list(decoded[place].shape()) != expected:
                reason = f"DALI: frames are {list(decoded[place].shape())}, not {expected}"
                results.append(VideoError(clip.path, reason))
                continue
            frames = self._as_torch(decoded[place], expected)
            if clip.bt709:
                frames = bt709_of_bt601(frames)
            if clip.turn != AS_STORED:  # DALI gives pictures as they are stored
                frames = clip.turn.pictures(frames, rows=1)
            results.append(frames[where.to(frames.device)])
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # the next run writes where was copied from
        return results

    def _as_torch(self, decoded: Any, shape: list[int]) -> torch.Tensor:
        """A copy: the next run of the pipeline writes into the same memory."""
        from nvidia.dali.plugin.pytorch import feed_ndarray

        # On a GPU in the order of torch's own work, which may still be reading what this memory held before.
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        return feed_ndarray(decoded, torch.empty(shape, dtype=torch.uint8, device=self.device), cuda_stream=stream)

    def _build(self) -> Any:
        from nvidia.dali import Pipeline, fn, types

        gpu = self.device.type == "cuda"
        # One run at a time, which the caller overlaps with its own work: what DALI would fetch ahead is not known here.
        pipeline = Pipeline(
            batch_size=self.batch_size,
            num_threads=self.threads,
            device_id=(self.device.index or 0) if gpu else None,
            prefetch_queue_depth=1,
            exec_pipelined=False,
            exec_async=False,
        )
        with pipeline:
            encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
            numbers = fn.external_source(name="numbers", dtype=types.INT32, ndim=1)
            # Without padding: a frame that is not there is an error.
            # On the GPU, threads that are not bound to cores: each rank would bind its own to the same ones.
            where = {"device": "mixed", "affine": False} if gpu else {"device": "cpu"}
            frames = fn.decoders.video(encoded, frames=numbers, pad_mode="none", **where)
            pipeline.set_outputs(frames)
        pipeline.build()
        return pipeline


def bt709_of_bt601(frames: torch.Tensor) -> torch.Tensor:
    """RGB of BT.709 video that was converted with the matrix of BT.601: uint8 ``[..., 3]`` -> uint8 ``[..., 3]``.

    Values that the wrong matrix put below 0 or above 255 are lost: they stay at the bound's colour.
    """
    # Both matrices are applied to the same luma and differences, so no constant is left.
    matrix = _rgb_of_luma_and_differences("bt709") @ np.linalg.inv(_rgb_of_luma_and_differences("bt601"))
    weights = torch.tensor(matrix, dtype=torch.float32, device=frames.device)
    return (frames.float() @ weights.T).round_().clamp_(0, 255).to(torch.uint8)


def _rgb_of_luma_and_differences(name: str) -> np.ndarray:
    """The 3 x 3 matrix that makes R, G, B of Y, B - Y and R - Y, each scaled to -0.5 .. 0.5 (ITU-R BT.601, BT.709)."""
    red, blue = LUMA_WEIGHTS[name]
    luma = np.array([red, 1 - red - blue, blue])
    blue_difference = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    red_difference = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    return np.linalg.inv(np.stack([luma, blue_difference, red_difference]))


def _cause(error: RuntimeError) -> str:
    """The line of DALI's message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "encountered:" in lines[:-1]:
        return lines[lines.index("encountered:") + 1]
    return lines[-1] if lines else type(error).__name__
