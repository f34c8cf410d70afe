"""Classes told by their texts alone."""
