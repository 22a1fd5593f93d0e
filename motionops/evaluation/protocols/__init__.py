"""How a backbone is measured: retrieval, linear classifiers, fine-tuning, and what each paper does."""
