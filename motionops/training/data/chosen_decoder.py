"""--decoder auto: both readers on the first videos of a run, and which of them it then has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from motionops.errors import UserError
from motionops.ranks import gather_lists
from motionops.training.data.dali_batches import DALIBatches, check_reads_frames
from motionops.video import VideoDataset
from motionops.video.dali import require_dali

CLEARLY = (
    1.1  # times as many videos a second must DALI give: it needs memory of the GPU, and PyAV's frames are the usual
)
MEASURED = 16  # videos of a batch


class Rates(NamedTuple):
    """Videos a second of a process: by PyAV in the readers, and by DALI, or why that cannot be had."""

    pyav: float
    dali: float
    refused: str = ""


def choose_decoder(rates: Sequence[Rates]) -> tuple[str, str]:
    """ "pyav" or "dali", by what all processes have measured, and a line that says it with the reason."""
    refused = next((each.refused for each in rates if each.refused), "")
    if refused:
        return "pyav", f"--decoder auto: pyav: {refused}"
    pyav, dali = (sum(each[place] for each in rates) for place in (0, 1))
    chosen = "dali" if dali > CLEARLY * pyav else "pyav"
    return chosen, f"--decoder auto: {chosen}: DALI reads {dali:.1f} videos a second, PyAV {pyav:.1f}"


def measured_rates(
    dataset: VideoDataset, batches: Sequence[Sequence[tuple[int, int]]], workers: int, dali: DALIBatches
) -> Rates:
    """Both readers' rates on two batches of a process, of which the first is not counted.

    Args:
        dataset: of the run, whose reader is PyAV's.
        batches: (epoch, index) of their videos.
        workers: that read beside the training.
        dali: decodes batches of the videos that DALI's reader reads.
    """
    plain, encoded = dataset.without_cache(), dali.dataset
    reading, seconds = {}, 0.0
    for kind, videos in (("pyav", plain), ("dali", encoded)):
        for batch in (batch[:MEASURED] for batch in batches):
            start = time.thread_time()
            items = [videos.item(*key) for key in batch]
            reading[kind] = (time.thread_time() - start) / len(items) / max(workers, 1)
            if kind == "dali":
                start = time.perf_counter()
                try:
                    dali.batch(items)
                except UserError as error:
                    return Rates(0.0, 0.0, str(error).removeprefix("--decoder dali: "))
                seconds = (time.perf_counter() - start) / len(items)
    # Readers and decoder work at the same time; without readers one after the other.
    slower = max(reading["dali"], seconds) if workers else reading["dali"] + seconds
    return Rates(1 / max(reading["pyav"], 1e-9), 1 / max(slower, 1e-9))


def cannot_be_dali(dataset: VideoDataset) -> str:
    """Why DALI is not to be measured, "" where it is."""
    try:
        require_dali()
        check_reads_frames(dataset)
    except UserError as error:
        return str(error).removeprefix("--decoder dali: ")
    return ""


def gathered_choice(rates: Rates) -> tuple[str, str]:
    """As :func:`choose_decoder`, the same in all processes."""
    return choose_decoder(gather_lists([rates]))
