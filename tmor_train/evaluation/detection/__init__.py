"""Actions in long recordings: a score for each frame, and events made of them."""
