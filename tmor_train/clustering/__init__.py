"""Clusters of motion embeddings: DBSCAN on cosine or Jaccard distance, exact, with memory linear in their number.

Training calls `clusters.cluster` after each epoch; it runs `dbscan.dbscan` or one of its variants.
"""
