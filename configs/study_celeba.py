r"""The paper's study on CelebA 32x32, at the paper's scale: for an accelerator.

    python -m ifanp_jax.main --mode=study --config=configs/study_celeba.py --workdir=runs/study_celeba \
        --config.data.dir=img_align_celeba --config.data.partition_file=list_eval_partition.txt

60,000 training and 5,000 test images, three seeds, beside the numbers that the paper prints.
"""

from ifanp_jax import presets

# Observed share, raw PSNR in dB and KL as the paper prints them. It does not say of how many samples its
# predictions are, whether they are clipped, and whether its KL is a sum or a mean. Ours is the clipped mean
# of `evaluate.num_samples` samples, and a sum over the dimensions of z in nats.
PUBLISHED = (
    ("image_np.IFNP", ((0.2, 15.421, 0.006851), (0.4, 15.447, 0.006800), (0.6, 15.525, 0.006808))),
    ("image_np.IFANP_LPA", ((0.2, 15.939, 0.004172), (0.4, 16.059, 0.004119), (0.6, 16.236, 0.004143))),
    ("image_np.IFANP_SENet", ((0.2, 16.186, 0.000223), (0.4, 16.231, 0.000197), (0.6, 16.258, 0.000182))),
    ("image_np.IFANP_GCA", ((0.2, 18.637, 0.000057), (0.4, 18.959, 0.000027), (0.6, 19.039, 0.000024))),
    ("image_np.IFANP", ((0.2, 19.391, 0.000037), (0.4, 19.862, 0.000012), (0.6, 20.138, 0.000010))),
)


def get_config():
    """Returns the configuration."""
    config = presets.load("study_digits:celeba")
    config.study.seeds = (0, 1, 2)
    config.study.published = PUBLISHED
    config.data.eval_split = "test"
    config.data.max_train_images = 60_000
    config.evaluate.num_images = config.evaluate.classical_images = 5000
    return config
