"""Steps of a method without a run around them: what is computed from batches that the method's own readers made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from motionops.models.bfloat16_convolutions import float32_where_wrong
from motionops.training.data.loading import PlannedData
from motionops.training.method import Method
from motionops.video import VideoDataset
from tests.methods.tiny import method_of, parts_of, tiny
from tests.methods.watched import watched


class Ready(NamedTuple):
    module: Method
    dataset: VideoDataset
    batches: list[dict[str, Any]]  # of the first steps


def ready(
    name: str,
    shapes: Path,
    output: Path,
    batches: int = 2,
    *,
    watch: bool = False,
    network: nn.Module | None = None,
    **flags: Any,
) -> Ready:
    """A method as it starts to train, and its first batches.

    `watch`: its config knows what is read of it. `network`: its backbone, in the place of what `flags` name.
    """
    build, make_dataset, find = parts_of(name)
    config = tiny(name, shapes, output, **flags)
    config.check_backbone()
    config = watched(config) if watch else config
    videos = find(config, False)
    torch.manual_seed(0)
    module = build(config, videos) if network is None else method_of(name)(config, network)
    module = module.to(memory_format=torch.channels_last_3d)
    module.steps_per_epoch, module.total_steps = 4, batches
    dataset = make_dataset(config, videos)
    read = set(type(config).read) if watch else set()
    data = PlannedData(config, module, dataset, "")  # which tells all flags to the other processes
    if watch:
        type(config).read.intersection_update(read)
    return Ready(module, dataset, list(data.train_dataloader()))


def steps(module: Method, batches: list[dict[str, Any]], alike: bool = False) -> Iterator[dict[str, torch.Tensor]]:
    """Take a step on each batch; what it returns is told before the backward pass and the update are done.

    `alike`: all of them draw the same, and no queue is written to.
    """
    optimizer = module.configure_optimizers()
    mixed = module.config.precision == "bf16-mixed"
    for number, batch in enumerate(batches):
        torch.manual_seed(0 if alike else number)
        optimizer.zero_grad()
        with float32_where_wrong(module), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            outputs = module.training_step(batch, number)
        yield outputs
        outputs["loss"].backward()
        optimizer.step()
        if alike:
            module._enqueued.clear()
        else:
            module.fill_queues()
            module.step += 1
