"""How many frames a file has, how large they are and which are key frames, from its packets alone.

In MP4 and Matroska a packet of the usual codecs is a frame, and says when it is shown. Where that is so, and decoding a
few packets at the beginning and behind the last key frame gives a frame each at the time that its packet states, the
number of packets is the number of frames. Of everything else nothing is told: two fields or hidden frames in packets of
their own, an edit list that leaves frames out, a file that begins in the middle or that was cut, packets whose parts do
not add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from motionops.video.counting.key_frames import NOT_KNOWN, KeyFrame, KeyFrames
from motionops.video.counting.pictures import look_of
from motionops.video.decoder import Decoder
from motionops.video.truncation import missing_end
from motionops.video.upright import Turn

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # which store when each frame is shown
DECODED = 2  # packets, at the beginning and at the last key frame
WHOLE_PICTURES = (0, 1)  # field orders: unknown, progressive


class Contents(NamedTuple):
    """Frames that decode, height and width of an upright picture, where decoding may begin, and whether all frames were
    decoded to find that out."""

    frames: int
    height: int
    width: int
    keys: KeyFrames = NOT_KNOWN
    decoded: bool = False


def contents_by_packets(decoder: Decoder) -> Contents | None:
    """What the packets of a file that was just opened tell, which is read to its end; None where only decoding does."""
    try:
        return _told(decoder)
    except decoder.av.error.FFmpegError:
        return None


def tells(decoder: Decoder) -> bool:
    """Whether the file is of a kind whose packets tell; nothing of it is read."""
    context = decoder.stream.codec_context
    return (
        decoder.container.format.name in CONTAINERS
        and int(context.field_order or 0) in WHOLE_PICTURES
        and look_of(context.codec.canonical_name, context.extradata or b"") is not None
    )


def _told(decoder: Decoder) -> Contents | None:
    context = decoder.stream.codec_context
    look = look_of(context.codec.canonical_name, context.extradata or b"")
    stamps, keys, first, last = [], [], [], []
    for stream in decoder.container.streams:
        if stream is not decoder.stream:
            stream.discard = type(stream.discard).all  # its packets would be read, too
    for packet in decoder.container.demux(decoder.stream):
        if not packet.size:
            continue
        if packet.pts is None or packet.is_corrupt or packet.is_discard or packet.has_sidedata("new_extradata"):
            return None
        picture = look(bytes(packet))
        if picture is None:
            return None
        if picture.key and packet.is_keyframe:
            keys.append((packet.pts, packet.dts))
            last = []
            first = first or last
        if len(last) < DECODED:
            last.append((packet, picture.shown))
        if picture.shown:
            stamps.append(packet.pts)
    if not stamps or not keys or not stamps[0] == keys[0][0] == min(stamps):
        return None
    order = np.argsort(np.array(stamps), kind="stable")
    shown = np.array(stamps)[order]
    # The most frames that wait for one that is coded later: a decoder that learns of it late loses frames.
    waiting = int((np.maximum.accumulate(order) - np.arange(len(order))).max())
    if (np.diff(shown) <= 0).any() or waiting > context.reorder_depth or missing_end(decoder.path):
        return None
    size = _size(decoder, first)
    if size is None or _size(decoder, last) is None:
        return None
    return Contents(len(shown), *size, KeyFrames.of(_numbered(shown, keys)))


def _numbered(shown: np.ndarray, keys: list[tuple[int, int | None]]) -> Iterator[KeyFrame]:
    """Key frames, by their times of showing and of decoding, among the times of all frames."""
    lag = None if keys[0][1] is None else keys[0][0] - keys[0][1]
    for number, (stamp, decoded) in zip(np.searchsorted(shown, [stamp for stamp, _ in keys]), keys, strict=True):
        sought = stamp if lag is None or decoded is None else max(stamp, decoded + lag)
        yield KeyFrame(int(number), stamp, sought)


def _size(decoder: Decoder, packets: list[tuple[Any, bool]]) -> tuple[int, int] | None:
    """Height and width of the frames of packets from a key frame on; None where they are others than those stated.

    Each packet comes with whether its picture is shown.
    """
    context = decoder.stream.codec_context
    context.flush_buffers()
    frames = [frame for packet, _ in (*packets, (None, False)) for frame in context.decode(packet)]
    begin = packets[0][0].pts  # what is shown before it needs what was coded before it
    stated = sorted(packet.pts for packet, shown in packets if shown and packet.pts >= begin)
    frames = [frame for frame in frames if frame.pts is None or frame.pts >= begin]
    if not frames or [frame.pts for frame in frames] != stated or any(frame.is_corrupt for frame in frames):
        return None
    if (frames[0].height, frames[0].width) != decoder.stated_size:
        return None
    decoder.turn = Turn.of(frames[0])
    return decoder.size(frames[0])
