"""Self-supervised learning for lenses (NeurIPS ML4PS 2023): five pretexts and, beyond the paper, three more."""
