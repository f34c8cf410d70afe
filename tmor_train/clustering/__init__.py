"""Clusters of motion embeddings: DBSCAN on cosine or Jaccard distance, exact, with memory linear in their number.

`clusters.cluster` is what training calls after each epoch; `dbscan.dbscan` and its variants are what it chooses from.
"""
