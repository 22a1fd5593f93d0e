"""The commands of ``trainers/evaluate.py``: the flags of each, and what it does with them."""
