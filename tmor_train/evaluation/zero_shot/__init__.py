"""Recognition of classes by their texts alone."""
