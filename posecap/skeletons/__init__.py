"""What skeletons say of themselves: likeness and quality."""
