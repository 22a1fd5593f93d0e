"""A part of a file as a file of its own: the packets from a key frame on to the last frame that is wanted."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from motionops.video.counting.key_frames import KeyFrame, KeyFrames
from motionops.video.counting.pictures import is_shown
from motionops.video.decoder import Decoder, NotThere
from motionops.video.upright import Turn

CONTAINER = "matroska"  # stores when each frame is shown, of every codec


class Piece(NamedTuple):
    """`data` is the file, `numbers` are those that the wanted frames have in it; `turn` makes them upright."""

    data: bytes
    numbers: list[int]
    turn: Turn


def cut_piece(path: str, numbers: Sequence[int], keys: KeyFrames) -> Piece | None:
    """The packets that rising frame numbers need; nothing is decoded but a frame.

    None where there is no key frame behind the first one to begin at, or it is not found where the check found it.
    """
    near = keys.up_to(numbers[0])
    if not near:
        return None
    try:
        with Decoder(path) as decoder:
            return _cut(decoder, numbers, near)
    except NotThere:
        return None


def _cut(decoder: Decoder, numbers: Sequence[int], keys: Sequence[KeyFrame]) -> Piece:
    av, stream, context = decoder.av, decoder.stream, decoder.stream.codec_context
    known = {key.shown: key.number for key in keys}
    file = io.BytesIO()
    try:
        decoder.container.seek(keys[-1].sought, stream=stream)
        packets = decoder.container.demux(stream)
        first = next(packets, None)
        if first is None or first.pts not in known or first.pts < 0:
            raise NotThere
        begin, stamp = known[first.pts], first.pts  # what is written gets another clock
        # A frame may wait for so many that are coded after it.
        wanted, shown, turned = numbers[-1] - begin + 1 + context.reorder_depth, 0, False
        with av.open(file, "w", format=CONTAINER) as copy:
            out = copy.add_stream_from_template(stream)
            for packet in itertools.chain([first], packets):
                if not packet.size or packet.pts is None or packet.pts < stamp:
                    continue  # shown before the key frame, it needs what was coded before that
                turned = turned or decoder.find_turn(packet)
                shown += is_shown(context.codec.canonical_name, bytes(packet))
                packet.stream = out
                copy.mux(packet)
                if shown == wanted:
                    break
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError) as error:  # it cannot be written, as AV1 here
        raise NotThere from error
    if shown <= numbers[-1] - begin:
        raise NotThere
    return Piece(file.getvalue(), [number - begin for number in numbers], decoder.turn)
