"""What a backbone has learnt: retrieval, probes, and pictures of a run."""

from motionops.evaluation.classification import Classification, classified, format_classification
from motionops.evaluation.features import extract_features
from motionops.evaluation.linear import LinearClassifier, fit_linear
from motionops.evaluation.metrics_file import write_metrics
from motionops.evaluation.probe import linear_probe
from motionops.evaluation.protocols import evaluate_linear, evaluate_retrieval, format_retrieval
from motionops.evaluation.retrieval import bootstrap_interval, chance, majority, nearest, retrieval
from motionops.evaluation.splits import check_lists, class_warnings, split_warnings

__all__ = [
    "Classification",
    "LinearClassifier",
    "bootstrap_interval",
    "chance",
    "check_lists",
    "class_warnings",
    "classified",
    "evaluate_linear",
    "evaluate_retrieval",
    "extract_features",
    "fit_linear",
    "format_classification",
    "format_retrieval",
    "linear_probe",
    "majority",
    "nearest",
    "retrieval",
    "split_warnings",
    "write_metrics",
]
