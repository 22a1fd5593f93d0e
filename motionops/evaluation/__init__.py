"""What a backbone has learnt: retrieval, probes, and pictures of a run."""

from motionops.evaluation.features import extract_features
from motionops.evaluation.probe import linear_probe
from motionops.evaluation.protocols import check_lists, evaluate_retrieval, format_retrieval, write_metrics
from motionops.evaluation.retrieval import bootstrap_interval, chance, majority, nearest, retrieval

__all__ = [
    "bootstrap_interval",
    "chance",
    "check_lists",
    "evaluate_retrieval",
    "extract_features",
    "format_retrieval",
    "linear_probe",
    "majority",
    "nearest",
    "retrieval",
    "write_metrics",
]
