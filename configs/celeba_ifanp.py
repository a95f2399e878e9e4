r"""IFANP on CelebA 32x32: the central 148x148 pixels of the aligned faces, area-averaged.

From a folder of the aligned 178x218 JPEGs with the official partition:

    python -m ifanp_jax.main --config=configs/celeba_ifanp.py --workdir=runs/celeba \
        --config.data.dir=img_align_celeba --config.data.partition_file=list_eval_partition.txt

From arrays `train.npy` and `val.npy` (N, 32, 32, 3), or through TFDS:

    ... --config.data.source=arrays --config.data.dir=ARRAYS
    ... --config.data.source=tfds --config.data.dir=TFDS_DIR --config.data.eval_split=validation

Two CPU cores make about 88 images/s, so the whole of it takes 10 hours there; a run of 1,800 steps of 32
images (15 minutes) reaches 21.6 / 25.3 / 28.3 dB at 20 / 40 / 60 % observed, observed pixels kept. The other
models: `--config=configs/celeba.py:point_np.ANP`.
"""

from ifanp_jax import presets


def get_config():
    """Returns the configuration."""
    return presets.load("celeba:image_np.IFANP")
