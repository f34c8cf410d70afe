"""How weights are learned: the loop of pre-training, its optimiser and schedule, and what a run leaves behind."""
