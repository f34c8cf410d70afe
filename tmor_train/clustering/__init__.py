"""The parts of `tmor_train.clustering.clusters`, which is the face to import from."""
