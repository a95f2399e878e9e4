# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Complete a photo
#
# A photograph with scratches is completed by a shipped model, and compared with a classical method. The
# photograph comes with scikit-image; the scratches are drawn here. Every mask says what is observed: True =
# observed.

# %%
import matplotlib.pyplot as plt
import numpy as np
from skimage import data, draw, metrics, restoration

import ifanp_jax

SIDE = 256  # pixels of the part that is completed
NUM_SCRATCHES = 30
NUM_SAMPLES = 2

# %% [markdown]
# ## A damaged picture
#
# `image` is uint8 (H, W, 3). The damage is a set of thin lines.

# %%
image = data.astronaut()[:SIDE, 100 : 100 + SIDE]
generator = np.random.default_rng(0)
mask = np.ones((SIDE, SIDE), bool)
for _ in range(NUM_SCRATCHES):
    ends = generator.integers(0, SIDE, 4)
    rows, columns = draw.line(*ends)
    for shift in (-1, 0, 1):
        mask[np.clip(rows + shift, 0, SIDE - 1), columns] = False
damaged = np.where(mask[..., None], image, 0).astype(np.uint8)
print(f"{1 - mask.mean():.0%} of the pixels are missing.")

# %% [markdown]
# ## Complete it
#
# The model never reads a missing pixel, and it keeps every observed one. With one round the answers of a
# model without a latent variable are all equal, so the mean is what counts here.

# %%
model = ifanp_jax.from_pretrained("photos")
result = model.complete(damaged, mask, num_samples=NUM_SAMPLES, rounds=1)
completed = np.rint(result.mean * 255).astype(np.uint8)
assert (completed[mask] == image[mask]).all()

# %% [markdown]
# ## Beside a classical method

# %%
biharmonic = restoration.inpaint_biharmonic(damaged / 255.0, ~mask, channel_axis=-1)
truth = image / 255.0
for name, answer in (("model", result.mean), ("biharmonic", biharmonic)):
    print(f"{name}: PSNR {metrics.peak_signal_noise_ratio(truth, answer, data_range=1):.2f} dB")

# %%
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4))
pictures = {"damaged": damaged, "model": completed, "biharmonic": np.clip(biharmonic, 0, 1), "truth": image}
for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(name)
    axis.set_axis_off()
figure.savefig("complete_a_photo.png", bbox_inches="tight")

# %% [markdown]
# The same from the command line, where white = observed in the mask picture:
#
# ```
# ifanp-jax complete --model=photos --input=PICTURE.png --mask=MASK.png --output=DONE
# ```
