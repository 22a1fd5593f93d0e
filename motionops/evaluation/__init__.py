"""What a backbone has learnt: retrieval, probes, and pictures of a run."""

from motionops.evaluation.features.extraction import extract_features
from motionops.evaluation.protocols.classification import Classification, classification_metrics, format_classification
from motionops.evaluation.protocols.knn import knn_accuracy, knn_scores
from motionops.evaluation.protocols.linear import LinearClassifier, fit_linear, linear_probe
from motionops.evaluation.protocols.measure_linear import evaluate_linear
from motionops.evaluation.protocols.measure_retrieval import evaluate_retrieval, format_retrieval
from motionops.evaluation.protocols.retrieval import (
    bootstrap_interval,
    chance_recall,
    majority_accuracy,
    nearest_neighbours,
    retrieval_recall,
)
from motionops.evaluation.protocols.splits import class_warnings, split_warnings
from motionops.evaluation.written.metrics_file import write_metrics
from motionops.video.lists import check_lists

__all__ = [
    "Classification",
    "LinearClassifier",
    "bootstrap_interval",
    "chance_recall",
    "check_lists",
    "class_warnings",
    "classification_metrics",
    "evaluate_linear",
    "evaluate_retrieval",
    "extract_features",
    "fit_linear",
    "format_classification",
    "format_retrieval",
    "knn_accuracy",
    "knn_scores",
    "linear_probe",
    "majority_accuracy",
    "nearest_neighbours",
    "retrieval_recall",
    "split_warnings",
    "write_metrics",
]
