"""tmor_train: T-MOR, a skeleton encoder pre-trained against frozen video and text embeddings (arXiv 2606.21607)."""

__version__ = "0.1.0"
