"""The commands of ``posecap``: in each module, :func:`add` declares the arguments of its commands."""
