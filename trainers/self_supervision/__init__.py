"""Methods of self-supervision: a file each, a line each in `registry`."""
