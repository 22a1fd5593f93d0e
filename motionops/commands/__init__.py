"""What a person types: the one place that joins methods, data and evaluation."""
