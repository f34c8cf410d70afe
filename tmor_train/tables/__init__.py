"""The paper's tables with its figures as data, and what measures them anew with a checkpoint."""
