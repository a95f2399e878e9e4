import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from configs import celeba_ifanp
from ifanp_jax.runtime import flops
from ifanp_jax.training import dispatch, runs

X, W = jax.ShapeDtypeStruct((3, 4), jnp.float32), jax.ShapeDtypeStruct((4, 5), jnp.float32)
PRODUCT = 2 * 3 * 4 * 5  # of X @ W


@pytest.mark.parametrize(
    ("subscripts", "shapes", "multiply_adds"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)], 3 * 4 * 5),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        ("bhij,bkij->hk", [(2, 3, 4, 5), (2, 6, 4, 5)], 2 * 3 * 4 * 5 * 6),
        ("i,i->", [(7,), (7,)], 7),
    ],
)
def test_matrix_products_take_two_operations_per_multiply_add(subscripts, shapes, multiply_adds):
    arrays = [jnp.zeros(shape) for shape in shapes]
    assert flops.count(lambda x, y: jnp.einsum(subscripts, x, y), *arrays) == 2 * multiply_adds


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(("stride", "out_size"), [(1, (8, 10)), (2, (4, 5))])
@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")])
def test_convolutions_take_the_kernel_at_every_output_position(groups, stride, out_size, layout):
    b, inputs, outputs = 2, 6, 12
    image_shape, kernel_shape = (b, 8, 10, inputs), (3, 5, inputs // groups, outputs)
    if layout[0] == "NCHW":
        image_shape, kernel_shape = (b, inputs, 8, 10), (outputs, inputs // groups, 3, 5)

    def convolve(image, kernel):
        return lax.conv_general_dilated(
            image,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=layout,
            feature_group_count=groups,
        )

    h, w = out_size
    counted = flops.count(convolve, jnp.zeros(image_shape), jnp.zeros(kernel_shape))
    assert counted == 2 * b * h * w * outputs * 3 * 5 * (inputs // groups)


@pytest.mark.parametrize("groups", [1, 6])
def test_the_gradient_of_a_convolution_takes_three_times_the_forward(groups):
    image, kernel = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 6 // groups, 6))

    def loss(image, kernel):
        out = lax.conv_general_dilated(
            image,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return jnp.sum(out**2)

    forward = flops.count(loss, image, kernel)
    assert flops.count(jax.value_and_grad(loss, argnums=(0, 1)), image, kernel) == 3 * forward > 0


def test_a_scan_counts_every_iteration():
    def repeat(x, w):
        return lax.scan(lambda carry, _: (carry @ w, None), x, length=7)[0]

    square = jnp.zeros((4, 4))
    assert flops.count(repeat, X, square) == 7 * 2 * 3 * 4 * 4
    nested = lambda x, w: lax.scan(lambda carry, _: (repeat(carry, w), None), x, length=5)[0]  # noqa: E731
    assert flops.count(nested, X, square) == 5 * 7 * 2 * 3 * 4 * 4


def test_a_while_loop_counts_once():
    def repeat(x, w):
        return lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ w, x)

    assert flops.count(repeat, X, jnp.zeros((4, 4))) == 2 * 3 * 4 * 4


@pytest.mark.parametrize("is_first_larger", [True, False])
def test_a_condition_counts_its_larger_branch(is_first_larger):
    branches = (lambda x, w: (x @ w) @ w.T, lambda x, w: x)
    branches = branches if is_first_larger else branches[::-1]
    assert flops.count(lambda x, w: lax.cond(x[0, 0] > 0, *branches, x, w), X, W) == 2 * PRODUCT


def product(x, w):
    return x @ w


def product_with_own_gradient(x, w):
    multiply = jax.custom_vjp(product)
    multiply.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    return multiply(x, w)


@pytest.mark.parametrize(
    "function",
    [
        product,
        jax.jit(product),
        jax.checkpoint(product),
        product_with_own_gradient,
        jax.jit(jax.jit(product)),
    ],
    ids=["plain", "jit", "checkpoint", "custom_vjp", "nested_jit"],
)
def test_a_linear_layer_and_its_gradient_are_counted_within_other_functions(function):
    def loss(x, w):
        return jnp.sum(function(x, w) ** 2)

    assert flops.count(loss, X, W) == PRODUCT
    assert flops.count(jax.value_and_grad(loss, argnums=1), X, W) in (2 * PRODUCT, 3 * PRODUCT)
    assert flops.count(jax.grad(loss, argnums=(0, 1)), X, W) == 3 * PRODUCT


def test_recomputation_in_the_backward_pass_counts():
    def loss(w, x):
        return jnp.sum(jnp.sin(x @ w))

    assert flops.count(jax.grad(loss), W, X) == 2 * PRODUCT
    assert flops.count(jax.grad(jax.checkpoint(loss)), W, X) == 3 * PRODUCT


def test_all_but_products_and_convolutions_is_left_out():
    assert flops.count(lambda x: jnp.sum(jnp.exp(x)) + jax.random.normal(jax.random.key(0)), X) == 0


def test_the_training_step_of_celeba_is_near_the_hand_formula():
    config = celeba_ifanp.get_config()
    run = runs.make(config, (32, 32, 3))
    counted = dispatch.count_step_flops(dataclasses.replace(run, state=runs.abstract_state(run)))
    n, d, depth = 32 * 32, config.model.width, 3
    encoder = n * (5 * d + depth * 9 * d * d)
    attention = n * n * d
    decoder = n * (d * d + depth * 9 * d * d + 3 * d)
    # Encoder 1 sees context and full image, encoder 2 the context; the gradient costs twice the forward.
    expected = 3 * 2 * config.train.batch_size * (3 * encoder + attention + decoder)
    assert counted == pytest.approx(expected, rel=0.2)
