"""Plans: the rows of a manifest divided into parts before a build starts."""
