"""posecap: from a list of videos to synchronized video, skeleton and text; see the README for the walk."""

__version__ = "0.1.0"
