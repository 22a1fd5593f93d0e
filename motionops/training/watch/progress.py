"""The bar of a run: loss, accuracy, clips/s, time left."""

from __future__ import annotations

import sys

from tqdm import tqdm

from motionops.training.lightning import Callback
from motionops.training.watch.waiting import WORTH_A_WORD


class TrainingBar(Callback):
    """One bar over all steps of the run, on stderr; a line every half minute where stderr is no terminal."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None

    def on_train_start(self, trainer, module) -> None:
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=module.total_steps,
            initial=module.step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if terminal else 30.0,
            maxinterval=1.0 if terminal else 30.0,
            disable=not trainer.is_global_zero,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]",
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if not module.between_steps:
            return
        shown = module.metrics
        if shown:
            self.bar.set_postfix_str(
                f"epoch {shown['epoch'] + 1}, loss {shown['loss']:.3f}"
                + (f", accuracy {100 * shown['accuracy']:.0f} %" if "accuracy" in shown else "")
                + f", {shown['clips_per_second']:.0f} clips/s"
                + (f", waits {100 * shown['waiting']:.0f} %" if shown["waiting"] > WORTH_A_WORD else ""),
                refresh=False,
            )
        self.bar.update()

    def on_train_end(self, trainer, module) -> None:
        self.close()

    def on_exception(self, trainer, module, exception) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.refresh()
            self.bar.close()
            self.bar = None
