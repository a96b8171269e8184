"""The rows and the paper's figures of arXiv 2512.06642."""

SCRATCH = "scratch"
MODES = ("paper", "honest")
MUST = 3  # rows that are always done: scratch and the two ratios that the paper sets against each other
SOURCES = ("stored_paper_size", "stored_scaled", "stream")
COMPARISON_SEEDS = (0, 1, 2)
PRETRAINING = 1000  # added to the seed

# Table 1 of the paper: 3 classes at a mask ratio of 0.9, and without pretraining. Of super-resolution from 16 to 64
# pixels "about 33 dB", without a word on the rule of down-sampling.
PAPER = {
    SCRATCH: {"macro_auc": 0.957, "accuracy": 0.8246},
    "0.9": {"macro_auc": 0.968, "accuracy": 0.8865},
}
PAPER_SUPERRES = {"psnr": 33.0, "ssim": 0.961}


def row_folder(row: str) -> str:
    """The folder of a row."""
    return row if row == SCRATCH else f"mask_{row}"
