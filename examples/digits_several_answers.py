# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Digits with several answers
#
# Where a context decides little, there is more than one good answer. Here a model that was trained on MNIST
# completes digits of which it sees the upper half.
#
# The digits are those that scikit-learn carries: 8x8 pixels, made larger to MNIST's 28x28. So they are softer
# than MNIST's own, and no number on this page is a result on MNIST.

# %%
import matplotlib.pyplot as plt
import numpy as np
from skimage import transform
from sklearn import datasets

import ifanp_jax

NUM_DIGITS = 4
NUM_SAMPLES = 5
ROUNDS = 16  # steps in which an answer is drawn

# %% [markdown]
# ## Digits as MNIST has them
#
# MNIST's digits fill 20x20 pixels in the middle of 28x28.

# %%
small = datasets.load_digits().images[:NUM_DIGITS] / 16  # (N, 8, 8) in [0, 1]
large = np.stack([transform.resize(digit, (20, 20), order=3) for digit in small])
images = np.pad(np.clip(large, 0, 1), ((0, 0), (4, 4), (4, 4)))[..., None].astype(np.float32)
mask = np.zeros((28, 28), bool)
mask[:14] = True  # the upper half is observed

# %% [markdown]
# ## Several answers
#
# With rounds, an answer is drawn a share of the pixels at a time, and each round sees what the rounds before
# it drew. So each answer fits itself. The seed decides which answers come.

# %%
model = ifanp_jax.from_pretrained("mnist28")
result = model.complete(images, mask, num_samples=NUM_SAMPLES, rounds=ROUNDS, seed=0)
print(result.samples.shape)  # (samples, digits, 28, 28, 1)
difference = result.samples.std(axis=0)[:, ~mask].mean()
print(f"Answers differ by {difference:.3f} on average, as a standard deviation in intensities from 0 to 1.")

# %%
columns = ["context", *(f"answer {k + 1}" for k in range(NUM_SAMPLES)), "mean", "truth"]
size = (1.2 * len(columns), 1.3 * NUM_DIGITS)
figure, axes = plt.subplots(NUM_DIGITS, len(columns), figsize=size, squeeze=False)
for index, image in enumerate(images):
    context = np.where(mask[..., None], image, 0.5)
    pictures = [context, *result.samples[:, index], result.mean[index], image]
    for axis, name, picture in zip(axes[index], columns, pictures, strict=True):
        axis.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(name if index == 0 else "", fontsize=9)
        axis.set_axis_off()
figure.savefig("digits_several_answers.png", bbox_inches="tight")

# %% [markdown]
# The mean is the best single guess in PSNR. It is blurred where the answers differ; an answer is sharp, and
# may be another digit than the truth.
