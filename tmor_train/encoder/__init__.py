"""The motion encoder E_M, and what projects it, and frozen vectors, into the one space of Sec. III-B."""
