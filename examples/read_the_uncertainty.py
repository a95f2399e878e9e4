# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Read the uncertainty
#
# A completion comes with a standard deviation for every value. Three questions show what it is worth: is it
# large where the error is large, do intervals hold as many values as they should, and how does it change with
# the context?
#
# The picture comes with scikit-image, and was never seen in the training.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from skimage import data

import ifanp_jax

SIDE = 128
OBSERVED = 0.3  # share of the pixels, at random
SHARES = (0.1, 0.3, 0.5)

# %%
image = data.chelsea()[20 : 20 + SIDE, 120 : 120 + SIDE]  # uint8 (H, W, 3)
truth = image / 255.0
mask = np.random.default_rng(0).random((SIDE, SIDE)) < OBSERVED
model = ifanp_jax.from_pretrained("photos")
result = model.complete(image, mask, num_samples=1, rounds=1)

# %% [markdown]
# ## Is it large where the error is large?
#
# `uncertainty` is in the units of the picture, from 0 to 1, and 0 at observed pixels. The rank correlation
# with the true error is 1 for a perfect order, and 0 for none.

# %%
error = np.abs(result.mean - truth)[~mask]  # (pixels, 3)
deviation = result.uncertainty[~mask]
correlation = stats.spearmanr(deviation.ravel(), error.ravel()).statistic
print(f"Rank correlation with the true error: {correlation:.2f}")

# %% [markdown]
# ## Do intervals hold what they should?
#
# `interval(0.9)` should hold the truth in 9 of 10 missing values, by the distribution that the model
# predicts. Fewer inside means overconfident, more means underconfident.

# %%
for level in (0.5, 0.9):
    low, high = result.interval(level)
    inside = ((low <= truth) & (truth <= high))[~mask].mean()
    print(f"The {level:.0%} intervals hold {inside:.0%} of the missing values.")

# %% [markdown]
# ## How does it change with the context?

# %%
for share in SHARES:
    observed = np.random.default_rng(1).random((SIDE, SIDE)) < share
    other = model.complete(image, observed, num_samples=1, rounds=1)
    deviation = other.uncertainty[~observed].mean()
    error = np.abs(other.mean - truth)[~observed].mean()
    print(f"{share:.0%} observed: mean deviation {deviation:.3f}, mean error {error:.3f}")

# %%
figure, axes = plt.subplots(1, 4, figsize=(13, 3.2))
axes[0].imshow(np.where(mask[..., None], truth, 0.5))
axes[1].imshow(result.mean)
options = {"vmin": 0, "vmax": 0.25, "cmap": "viridis"}  # one scale for both
axes[2].imshow(result.uncertainty.mean(axis=-1), **options)
shown = axes[3].imshow(np.abs(result.mean - truth).mean(axis=-1), **options)
for axis, name in zip(axes, ("context", "mean", "uncertainty", "true error"), strict=True):
    axis.set_title(name)
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, shrink=0.8, label="intensities from 0 to 1")
figure.savefig("read_the_uncertainty.png", bbox_inches="tight")
