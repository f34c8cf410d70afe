"""Clusters of motion embeddings: DBSCAN on cosine or Jaccard distance, with memory linear in their number; exact, or on
part of the pairs where comparing all of them takes too long.

Training calls `clusters.cluster` after epochs; it runs the variant that its configuration names.
"""
