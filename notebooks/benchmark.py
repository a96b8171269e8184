# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Benchmark batches
#
# A benchmark is a set of images that never changes: preset, split and size say all of it. Nothing is downloaded, and
# nothing has to be stored; but it can be, and fed to any loader. Open this file with Jupyter (by jupytext), or run it.

# %%
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

import lensgen

test = lensgen.benchmark("model_a", split="test", size=96)
test

# %% [markdown]
# The fingerprint follows from the exact bits of what was drawn, and the card holds some pixels besides. Keep the card
# with your results: on another machine, or in another year, `verify` says whether it is the same benchmark.

# %%
card = test.card
lensgen.benchmark("model_a", split="test", size=96).verify(card)  # silent: it is
try:
    lensgen.benchmark("model_a", split="test", size=95).verify(card)
except lensgen.errors.LensgenError as error:
    print(error)

# %% [markdown]
# A batch shows itself. Of the truth beside the images, as much as is asked for:

# %%
few = lensgen.benchmark("model_a", size=12, outputs=("image", "smooth", "detectability")).batch()
few

# %%
print("what is there to be seen, in squared standard deviations:")
for name, label in zip(few.class_names, range(3), strict=True):
    own = few.maps["detectability"][few.label == label]
    print(f"  {name:8} {own.tolist()}")

# %% [markdown]
# It is a data set of PyTorch's, so a loader takes it as it is.

# %%
loader = DataLoader(test, batch_size=32)
model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3)).to(test.simulator.device)
scale = test.simulator.input_scale[0]  # the noise of an empty pixel
with torch.no_grad():
    right = sum(int((model(torch.asinh(image / scale)).argmax(1) == label).sum()) for image, label in loader)
print(f"an untrained model has {right} of {len(test)} right")

# %% [markdown]
# Written to disk, any trainer reads it: `python -m trainers.mae --data benchmark.h5`.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = test.save(Path(folder) / "benchmark.h5", progress=False)
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
