"""One paper's table in one command: the runs of a protocol, how many of them a budget allows, and their results."""
