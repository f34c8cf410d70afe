"""The motion encoder E_M with its EMA, and the heads that project its features and frozen vectors into one space."""
