"""What a finished measurement prints, and the row that it adds to results.csv."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from motionops.commands.evaluate.flags import Measurement
from motionops.commands.evaluate.folders import results_file
from motionops.commands.evaluate.inputs import Inputs
from motionops.evaluation.protocols.classification import format_classification
from motionops.evaluation.protocols.measure_retrieval import format_retrieval
from motionops.evaluation.written.results import append_result


def main_score(metrics: dict[str, Any]) -> str:
    """The score that a run is known by: ``top1``, or of retrieval ``R@1`` (the smallest k there is)."""
    return "top1" if "top1" in metrics else next(iter(metrics["interval"]))


def publish(config: Measurement, inputs: Inputs, metrics: dict[str, Any]) -> None:
    """Print the table, append the row; of several processes the first does, which alone has the metrics."""
    if not metrics:
        return
    print(format_retrieval(metrics) if metrics["protocol"] == "retrieval" else format_classification(metrics))
    file = results_file(config)
    resumed = getattr(config, "resume", False)  # what was measured before the stop has its row
    append_result(result_row(config, inputs, metrics), file, twice=not resumed)
    print(f"written: {config.output / 'metrics.json'}, a row of {file}")


def result_row(config: Measurement, inputs: Inputs, metrics: dict[str, Any]) -> dict[str, Any]:
    low, high = metrics["interval"][main_score(metrics)]
    settings = metrics["settings"]
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "protocol": metrics["protocol"],
        "paper": config.protocol or "",
        "backbone": config.backbone,
        "fingerprint": inputs.fingerprint,
        "train": config.train or str(config.data or "MovingShapes"),
        "test": config.test or str(config.data or "MovingShapes"),
        **{name: metrics[name] for name in ("n_train", "n_test", "classes")},
        **{name: metrics[name] for name in metrics["interval"]},
        "low": low,
        "high": high,
        **{name: metrics[name] for name in ("chance", "majority", "share") if name in metrics},
        **{name: settings[name] for name in ("clips", "crops", "frames", "stride", "size", "crop") if name in settings},
        "seed": config.seed,
        "output": str(config.output),
    }
