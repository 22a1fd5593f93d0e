"""What a packet holds, by the first bytes of its parts: a picture that is shown, a hidden one, a key frame.

A look returns None for a packet that is not plainly one picture: two fields, several shown frames, parts that do not
add up. Only decoding tells what comes of such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from motionops.video.counting.h264_header import Sequence, sequences


class Picture(NamedTuple):
    """`key`: whatever is shown from it on needs nothing that was coded before it."""

    shown: bool
    key: bool


Look = Callable[[bytes], Picture | None]

SHORTEST_VOP = 16  # bytes: MPEG-4's "not coded", which shows nothing, takes less
H264_SLICES, H264_IDR, H264_SEI, H264_SPS, H264_ENDS = (1, 2, 5), 5, 6, 7, (10, 11)
HEVC_PICTURES, HEVC_KEYS, HEVC_SPS, HEVC_ENDS = range(32), range(16, 22), 33, (36, 37)
RECOVERY_POINT = 6  # payloadType of H.264's supplemental information (ITU-T H.264, D.1.8)
AV1_HEADER, AV1_FRAME = 3, 6


def look_of(codec: str, header: bytes) -> Look | None:
    """How packets of a stream are looked at, in their order, from the first one on; None where they do not tell.

    `header` is what the container has of the codec.
    """
    if codec == "h264" and len(header) > 6 and header[0] == 1:
        found = sequences(header)
        return _H264(header, found[0]) if len(found) == 1 and found[0].whole_frames else None
    if codec == "hevc" and len(header) > 22 and header[0] == 1:
        return _HEVC(header)
    return {"vp8": _vp8, "vp9": _vp9, "av1": _av1, "mpeg4": _mpeg4, "mjpeg": _whole}.get(codec)


def is_shown(codec: str, data: bytes) -> bool:
    """Whether a packet's picture is shown, of a file whose packets were all looked at."""
    look = {"vp8": _vp8, "vp9": _vp9, "av1": _av1}.get(codec)
    picture = None if look is None else look(data)
    return picture is None or picture.shown


class _Units:
    """Of H.264 and HEVC as MP4 and Matroska store them: units behind their lengths (ISO/IEC 14496-15)."""

    def __init__(self, header: bytes, length_size: int) -> None:
        self.header, self.length_size = header, length_size

    def parts(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where each unit begins and ends; ValueError where they do not make up the packet."""
        place, size = 0, self.length_size
        while place < len(data):
            start = place + size
            place = start + int.from_bytes(data[start - size : start], "big")
            if place > len(data) or start + 1 >= place:
                raise ValueError("a unit is longer than its packet, or empty")
            yield start, place


class _H264(_Units):
    """Also follows the numbers of the frames that others may be predicted from: where one is lost, the decoder shows
    nothing until the next key frame, and says nothing."""

    def __init__(self, header: bytes, sequence: Sequence) -> None:
        super().__init__(header, (header[4] & 3) + 1)
        self.number_bits, self.last = sequence.number_bits, 0

    def __call__(self, data: bytes) -> Picture | None:
        pictures, key = 0, False
        try:
            for start, end in self.parts(data):
                kind = data[start] & 31
                if data[start] & 0x80 or kind in H264_ENDS:
                    return None
                if kind in H264_SLICES:
                    key = key or kind == H264_IDR
                    if data[start + 1] >> 7:  # first_mb_in_slice is 0: Exp-Golomb's "1"
                        pictures += 1
                        if not self._follows(data[start + 1 : start + 9], kind, bool(data[start] >> 5 & 3)):
                            return None
                elif kind == H264_SEI:
                    key = key or _recovers_at_once(data[start + 1 : end])
                elif kind == H264_SPS and data[start:end] not in self.header:
                    return None  # other pictures from here on
        except (ValueError, IndexError):
            return None
        return Picture(True, key) if pictures == 1 else None

    def _follows(self, slice_header: bytes, kind: int, reference: bool) -> bool:
        """Whether a picture's frame_num is the one that comes next (7.4.3); the header begins with Exp-Golomb's "1"."""
        if b"\0\0\3" in slice_header:
            slice_header = slice_header.replace(b"\0\0\3", b"\0\0")
        left = 8 * len(slice_header) - 1
        value = int.from_bytes(slice_header, "big") & (1 << left) - 1
        for _ in range(2):  # slice_type, pic_parameter_set_id
            left = 2 * value.bit_length() - left - 1
            if left < 0:
                return False
            value &= (1 << left) - 1
        if left < self.number_bits:
            return False
        number = value >> left - self.number_bits
        before = 0 if kind == H264_IDR else self.last
        if (number - before) % (1 << self.number_bits) > 1:
            return False
        if reference or kind == H264_IDR:
            self.last = number
        return True


def _recovers_at_once(messages: bytes) -> bool:
    """Whether one is a recovery point of which everything shown from this picture on is exact: frame_cnt 0, exact."""
    place = 0
    while place + 2 < len(messages):
        numbers = []
        for _ in range(2):  # type and size, each a sum that ends with a byte below 255
            number = 0
            while messages[place] == 255:
                number, place = number + 255, place + 1
            numbers.append(number + messages[place])
            place += 1
        if numbers[0] == RECOVERY_POINT:
            return messages[place] >> 6 == 0b11
        place += numbers[1]
    return False


class _HEVC(_Units):
    def __init__(self, header: bytes) -> None:
        super().__init__(header, (header[21] & 3) + 1)

    def __call__(self, data: bytes) -> Picture | None:
        pictures, key = 0, False
        try:
            for start, end in self.parts(data):
                kind, layer = data[start] >> 1 & 63, (data[start] & 1) << 5 | data[start + 1] >> 3
                if data[start] & 0x80 or kind in HEVC_ENDS:
                    return None
                if layer:
                    continue  # the other eye's, which is not decoded
                if kind in HEVC_PICTURES:
                    pictures += data[start + 2] >> 7  # first_slice_segment_in_pic_flag
                    if kind in HEVC_KEYS:
                        key = True
                        if data[start + 2] & 0x40:  # no_output_of_prior_pics_flag
                            return None
                elif kind == HEVC_SPS and data[start:end] not in self.header:
                    return None
        except (ValueError, IndexError):
            return None
        return Picture(True, key) if pictures == 1 else None


def _vp8(data: bytes) -> Picture:
    """RFC 6386, 9.1."""
    return Picture(bool(data[0] >> 4 & 1), not data[0] & 1)


def _vp9(data: bytes) -> Picture | None:
    """Bitstream specification, annex B and 6.2: a packet may hold hidden frames before the one that is shown."""
    frames = [data]
    if data[-1] >> 5 == 0b110:
        count, size = (data[-1] & 7) + 1, (data[-1] >> 3 & 3) + 1
        index = data[-2 - count * size :]
        if index[0] == data[-1] and len(index) == 2 + count * size:
            frames, place = [], 0
            for number in range(count):
                length = int.from_bytes(index[1 + number * size : 1 + (number + 1) * size], "little")
                frames.append(data[place : place + length])
                place += length
    shown, key = 0, False
    for number, frame in enumerate(frames):
        if not frame or frame[0] >> 6 != 0b10:
            return None
        profile = frame[0] >> 5 & 1 | frame[0] >> 3 & 2
        bits = int.from_bytes(frame[:2].ljust(2, b"\0"), "big") << (5 if profile == 3 else 4) & 0xFFFF
        if bits & 0x8000:  # show_existing_frame
            shown += 1
            continue
        key = key or (number == 0 and not bits & 0x4000)
        shown += bits >> 13 & 1
    return Picture(bool(shown), key and bool(shown)) if shown <= 1 else None


def _av1(data: bytes) -> Picture | None:
    """Bitstream specification, 5.3 and 5.9.2."""
    place, shown, key, first = 0, 0, False, True
    try:
        while place < len(data):
            header = data[place]
            place += 1 + (header >> 2 & 1)
            if header & 0x80:
                return None
            size, shift = (0, 0) if header & 2 else (len(data) - place, None)
            while shift is not None:
                size |= (data[place] & 127) << shift
                shift = shift + 7 if data[place] & 128 else None
                place += 1
            if header >> 3 & 15 in (AV1_HEADER, AV1_FRAME):
                bits = data[place]  # show_existing_frame, frame_type in two (0: a key frame), show_frame
                key = key or (first and bits >> 4 == 1)
                shown, first = shown + (bits >> 7 | bits >> 4 & 1), False
            place += size
    except IndexError:
        return None
    return Picture(bool(shown), key) if shown <= 1 and place == len(data) else None


def _mpeg4(data: bytes) -> Picture | None:
    """ISO/IEC 14496-2, 6.2.5: one video object plane; XviD packs two into one, and others are without content."""
    start = data.find(b"\0\0\1\xb6") + 4
    if start < 4 or len(data) - start < SHORTEST_VOP or data.find(b"\0\0\1\xb6", start) >= 0:
        return None
    return Picture(True, data[start] >> 6 == 0)


def _whole(_: bytes) -> Picture:
    return Picture(True, True)
