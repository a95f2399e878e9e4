# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Train on arrays
#
# Images in an array, a trained model out. The images are the 1,797 digits of 8x8 pixels that scikit-learn
# carries; any array of one size works, uint8 or float in [0, 1], (N, H, W) or (N, H, W, C).

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn import datasets

import ifanp_jax

NUM_STEPS = 1500
CONFIG = "digits_ifanp"  # a shipped configuration; "own_multiscale" is ours, for images of any kind
FIELDS = {}  # any other field of ifanp_jax/configuration.py, by its dotted name

# %%
images = (datasets.load_digits().images / 16).astype(np.float32)  # (1797, 8, 8) in [0, 1]
trained = ifanp_jax.train(
    images[:-200],
    held_out=images[-200:],
    config=CONFIG,
    overrides={"train.num_steps": NUM_STEPS, **FIELDS},
    name="digits",
)

# %% [markdown]
# The log shows loss, PSNR, speed and the time that is left. With `workdir="runs/mine"` everything is kept:
# the same call then goes on after an interruption, `ifanp_jax.load("runs/mine")` loads the model, and
# `ifanp-jax evaluate --workdir=runs/mine` repeats the tables.
#
# ## Numbers
#
# `evaluate` prints the table of the held-out images beside classical interpolation, and returns it.

# %%
evaluation = trained.evaluate()
for cell in evaluation["cells"][:3]:
    print(f"{cell['fraction']:.0%} observed: {cell['psnr_completed']:.2f} dB, observed pixels kept")

# %% [markdown]
# ## Complete

# %%
digit = images[-1]
mask = np.random.default_rng(0).random(digit.shape) < 0.4  # True = observed
result = trained.complete(digit, mask, num_samples=4)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3))
pictures = {
    "context": np.where(mask, digit, 0.5),
    "mean": result.mean[..., 0],
    "uncertainty": result.uncertainty[..., 0],
    "truth": digit,
}
for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=0.25 if name == "uncertainty" else 1)
    axis.set_title(name)
    axis.set_axis_off()
figure.savefig("train_on_arrays.png", bbox_inches="tight")
