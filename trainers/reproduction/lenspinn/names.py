"""The figures of LensPINN's paper (ML4PS 2024), and which of the recipe's models differ in their preprocessing."""

from __future__ import annotations

from trainers.reproduction.model_table.names import PaperRow

# Models with the preprocessing and without it, or with less of it.
PREPROCESSING = (
    ("lenspinn_small", "lenspinn_small_plain"),
    ("lenspinn_small_floor", "lenspinn_small_plain"),
    ("mobilenet_preprocessed", "mobilenet"),
    ("efficientnet_preprocessed", "efficientnet"),
)

_LENSPINN_SMALL = PaperRow(0.956, (1.00, 0.99, 0.99), 7.17, 0.957)
# Table 1, by the keys of the recipe's `models`. The text's LensPINN learns theta_E, that of the public code cannot: the
# paper's figures stand beside both.
PAPER = {
    "resnet18": PaperRow(0.818, (0.97, 0.85, 0.95), 11.17, 0.817),
    "vit": PaperRow(0.863, (0.99, 0.66, 0.96), 13.72, 0.864),
    "cait": PaperRow(0.878, (0.99, 0.64, 0.96), 13.76, 0.871),
    "vitsd": PaperRow(0.867, (1.00, 0.66, 0.97), 13.73, 0.868),
    "lensformer": PaperRow(0.957, (1.00, 0.99, 0.99), 15.7, 0.959),
    "lenspinn_small": _LENSPINN_SMALL,
    "lenspinn_small_hard": _LENSPINN_SMALL,
    "lenspinn_large": PaperRow(0.996, (1.00, 1.00, 1.00), 14.56, 0.996),
}
