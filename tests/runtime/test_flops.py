import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from configs import celeba_ifanp
from ifanp_jax.runtime import flops
from ifanp_jax.training import dispatch, runs

X, W = jax.ShapeDtypeStruct((3, 4), jnp.float32), jax.ShapeDtypeStruct((4, 5), jnp.float32)
PRODUCT = 2 * 3 * 4 * 5  # of X @ W


def test_matrix_products_take_two_operations_per_multiply_add():
    for subscripts, shapes, multiply_adds in (
        ("ij,jk->ik", [(3, 4), (4, 5)], 3 * 4 * 5),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        ("bhij,bkij->hk", [(2, 3, 4, 5), (2, 6, 4, 5)], 2 * 3 * 4 * 5 * 6),
        ("i,i->", [(7,), (7,)], 7),
    ):
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        assert flops.count(functools.partial(jnp.einsum, subscripts), *arrays) == 2 * multiply_adds


def convolution(*, stride=1, groups, layout=("NHWC", "HWIO", "NHWC")):
    options = {"dimension_numbers": layout, "feature_group_count": groups}
    return lambda image, kernel: lax.conv_general_dilated(image, kernel, (stride, stride), "SAME", **options)


def test_convolutions_take_the_kernel_at_every_output_position():
    b, inputs, outputs = 2, 6, 12
    layouts = (("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"))
    for groups, (stride, h, w), layout in itertools.product((1, 2, 6), ((1, 8, 10), (2, 4, 5)), layouts):
        shapes = (b, 8, 10, inputs), (3, 5, inputs // groups, outputs)
        if layout[0] == "NCHW":
            shapes = (b, inputs, 8, 10), (outputs, inputs // groups, 3, 5)
        arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
        counted = flops.count(convolution(stride=stride, groups=groups, layout=layout), *arrays)
        assert counted == 2 * b * h * w * outputs * 3 * 5 * (inputs // groups)


def test_the_gradient_of_a_convolution_takes_three_times_the_forward():
    for groups in (1, 6):
        arrays = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 6 // groups, 6))

        def loss(image, kernel, groups=groups):
            return jnp.sum(convolution(groups=groups)(image, kernel) ** 2)

        gradient = jax.value_and_grad(loss, argnums=(0, 1))
        assert flops.count(gradient, *arrays) == 3 * flops.count(loss, *arrays) > 0


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


def test_a_condition_counts_its_larger_branch():
    large, small = lambda x, w: (x @ w) @ w.T, lambda x, w: x
    for pair in ((large, small), (small, large)):
        choose = functools.partial(
            lambda first, second, x, w: lax.cond(x[0, 0] > 0, first, second, x, w), *pair
        )
        assert flops.count(choose, X, W) == 2 * PRODUCT


def product(x, w):
    return x @ w


def product_with_own_gradient(x, w):
    multiply = jax.custom_vjp(product)
    multiply.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    return multiply(x, w)


def test_a_linear_layer_and_its_gradient_are_counted_within_other_functions():
    own = product_with_own_gradient
    for function in (product, jax.jit(product), jax.checkpoint(product), own, jax.jit(jax.jit(product))):

        def loss(x, w, function=function):
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
