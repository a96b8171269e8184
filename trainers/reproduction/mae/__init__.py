"""arXiv 2512.06642: masked autoencoders of lenses."""
