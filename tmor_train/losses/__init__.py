"""The losses of the paper: masks of positives and negatives, the contrastive losses on them, queue and memory bank."""
