"""The commands of ``tmor_train``: each module's ``add`` adds its parsers, and the functions that they name run them."""
