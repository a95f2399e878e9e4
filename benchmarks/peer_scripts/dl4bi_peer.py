"""CNP, ANP and the transformer TNP-D of the package dl4bi, with its own settings, as peers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from dl4bi.core.mlp import MLP
from dl4bi.core.train import TrainState
from dl4bi.meta_learning.anp import ANP
from dl4bi.meta_learning.cnp import CNP
from dl4bi.meta_learning.data.spatial import SpatialBatch
from dl4bi.meta_learning.tnp_d import TNPD

MAX_BYTES = 4 * 2**30  # of a matrix of all pairs of points
# Heads of a matrix of all pairs of the context, or of context and targets; none without attention.
NUM_HEADS = {"CNP": 0, "ANP": 8, "TNPD": 4}


def make_model(name, channels):
    """A model with as many outputs as images of so many channels need."""
    if name == "CNP":
        return CNP(dec=MLP([128] * 4 + [2 * channels]))
    if name == "ANP":
        return ANP(dec=MLP([128] * 4 + [2 * channels]))
    return TNPD(head=MLP([128, 2 * channels], jax.nn.relu))


def make_batch(image, mask):
    """Context points and all pixels as targets; every image has as many observed pixels."""
    b, h, w, c = image.shape
    rows, columns = (np.arange(h) + 0.5) / h * 2 - 1, (np.arange(w) + 0.5) / w * 2 - 1
    xy = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(1, h * w, 2)
    s, f = np.broadcast_to(xy, (b, h * w, 2)).astype(np.float32), image.reshape(b, h * w, c)
    known = [np.flatnonzero(one) for one in mask.reshape(b, h * w)]
    chosen = np.stack(known)[:, :, None]
    return SpatialBatch(
        x_ctx=None,
        s_ctx=jnp.asarray(np.take_along_axis(s, chosen, axis=1)),
        f_ctx=jnp.asarray(np.take_along_axis(f, chosen, axis=1)),
        mask_ctx=None,
        x_test=None,
        s_test=jnp.asarray(s),
        f_test=jnp.asarray(f),
        mask_test=None,
        inv_permute_idx=jnp.arange(h * w),
        s_shape=(b, h, w, 2),
    )


class Peer:
    """One model with its state and batch."""

    is_compiled = False  # the first completion compiles

    def __init__(self, task, arrays):
        """Takes what `peers.write_task` wrote."""
        self.name = task["model"]
        self.model = make_model(self.name, arrays["image"].shape[-1])
        self.batch = make_batch(arrays["image"], arrays["mask"])
        self.picture = arrays["picture"], arrays["picture_mask"]
        self.key = jax.random.key(0)
        rngs = {"params": self.key, "extra": self.key, "dropout": self.key}
        variables = jax.jit(lambda: self.model.init(rngs, **self.batch))()
        self.state = TrainState.create(
            apply_fn=self.model.apply, params=variables["params"], tx=optax.adam(1e-4)
        )
        num_parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
        self.facts = {"num_parameters": num_parameters, "version": f"jax {jax.__version__}"}
        self.compiled = None

    def train_step(self):
        """One optimiser step; answers with its images."""
        self.key, key = jax.random.split(self.key)
        self.state, _ = self.model.train_step(key, self.state, self.batch)
        return len(self.batch.f_test)

    def wait(self):
        """Until the steps are done."""
        jax.block_until_ready(self.state.params)

    def complete(self):
        """Completes the picture once."""
        picture = make_batch(*self.picture)
        points = picture.s_ctx.shape[1] + (picture.s_test.shape[1] if self.name == "TNPD" else 0)
        num_bytes = 4 * NUM_HEADS[self.name] * points**2
        if num_bytes > MAX_BYTES:
            raise NotImplementedError(f"its matrix of all pairs would take {num_bytes / 2**30:.0f} GiB")
        if self.compiled is None:
            rngs = {"extra": self.key}
            self.compiled = jax.jit(
                lambda params, batch: self.model.apply({"params": params}, **batch, rngs=rngs)
            )
        jax.block_until_ready(jax.tree.leaves(self.compiled(self.state.params, dict(picture))))

    def terms(self):
        """Its weights are its own: there is nothing to compare."""
        raise NotImplementedError("another network")
