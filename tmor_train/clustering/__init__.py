"""The parts of `tmor_train.clusters`, which is the face to import from."""
