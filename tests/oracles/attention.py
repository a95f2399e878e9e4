"""The attention of GCA as everybody writes it: a matrix of all pairs for every image."""

import jax
import jax.numpy as jnp


def by_softmax(theta, values, observed):
    """The shared logits masked for each image, then a softmax for each.

    theta (N, K), inside the ball; values (B, N, D); observed bool (B, N), at least one each: (B, N, D).
    """
    logits = jnp.matmul(theta, theta.T, precision=jax.lax.Precision.HIGHEST)
    weights = jax.nn.softmax(jnp.where(observed[:, None, :], logits[None], -jnp.inf), axis=-1)
    return weights @ values


def by_jax(theta, values, observed):
    """The same by `jax.nn.dot_product_attention`, which takes queries and keys per image and wants K = D."""
    query = jnp.broadcast_to(theta[None, :, None], (len(values), len(theta), 1, theta.shape[1]))
    options = {"mask": observed[:, None, None, :], "scale": 1.0}
    return jax.nn.dot_product_attention(query, query, values[:, :, None], **options)[:, :, 0]
