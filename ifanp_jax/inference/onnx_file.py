"""A trained model as one ONNX file, which runs without JAX: in Python, a browser, C++ or C#.

The file takes `image`, float32 (1, H, W, C) in [0, 1], any value where missing, and `mask`, float32
(1, H, W, 1): 1 = observed, 0 = missing, -1 = padding beside the picture. It answers with `mean`, float32
(1, H, W, C) in [0, 1], observed pixels kept, and `deviation`, the standard deviation of each value, where the
model has a scale. They are those of `Model.complete` in one round and one call. H and W are any multiples of
the model's `cell`, or those of the training where it takes no other size.
"""

import contextlib
import dataclasses
import logging
import pathlib
import warnings

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.errors import UserError, first_line
from ifanp_jax.files import replacing
from ifanp_jax.inference.model import Model
from ifanp_jax.version import __version__

OPSET = 21
MIN_HALVED = 256  # values of a parameter, from which on it is stored as float16
TOLERANCE = 1e-4  # of an answer, against the model's own
SIDES = ("h", "w")  # names of the symbolic sides, in cells


def write(model: Model, output: str | pathlib.Path, *, dtype: str = "float32") -> None:
    """Writes the file, once ONNX Runtime gave the model's answers with it.

    Args:
      model: without a latent variable, whose draws no ONNX file could make.
      output: the file, NAME.onnx.
      dtype: of `options.DTYPES`; the answers of float16 are those of the rounded parameters.

    Raises:
      UserError: for another output, a model that cannot be written so, or answers that are others.
    """
    output = pathlib.Path(output).expanduser()
    if output.suffix != ".onnx" or output.is_dir():
        raise UserError(f"The output {output} must be a file; name one that ends with .onnx.")
    if dtype == "float16":
        model = dataclasses.replace(model, variables=jax.tree.map(_round, model.variables))
    content = serialize(model, dtype=dtype)
    for size in _list_sizes(model):
        check(model, content, size, tolerance=TOLERANCE)
    try:
        with replacing(output) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise UserError(f"The output {output} cannot be written ({error.strerror}).") from None


def serialize(model: Model, *, dtype: str = "float32") -> bytes:
    """The content of the file; see `write`."""
    import jax2onnx
    import onnx.helper

    cell, (h, w, c) = _find_cell(model), model.image_shape
    try:
        shapes = [jax.ShapeDtypeStruct((1, h, w, channels), jnp.float32) for channels in (c, 1)]
        jax.eval_shape(_make_answer(model, is_blocked=False), *shapes)
    except flax.errors.InvalidRngError:
        raise UserError(
            f"{model.config.model.name} has a latent variable, whose draws no ONNX file makes: export it by "
            "--format=stablehlo, or take a model without one, such as photos."
        ) from None
    # Sides as cells of pixels, so that every one of them stays a whole number in the program.
    sides = (*SIDES, cell) if cell else (h, w, 1)
    shapes = [(1, sides[0], sides[2], sides[1], sides[2], channels) for channels in (c, 1)]
    try:
        with warnings.catch_warnings(), _quiet("onnx_ir"), jax.numpy_rank_promotion("allow"):
            warnings.simplefilter("ignore")  # of types that it asks JAX for, and makes others of
            program = jax2onnx.to_onnx(_make_answer(model), shapes, opset=OPSET)
    except Exception as error:  # whatever a part that it does not know raises
        raise UserError(
            f"jax2onnx cannot write {model.config.model.name} ({first_line(error)}): export it by "
            "--format=stablehlo."
        ) from error
    _name(program, sides[2], [h, w] if not cell else None)
    facts = {"model": model.config.model.name, "version": __version__, "dtype": dtype}
    facts |= {name: model.about[name] for name in ("licence", "notice") if model.about.get(name)}
    onnx.helper.set_model_props(program, facts)
    if dtype == "float16":
        _halve_parameters(program)
    return program.SerializeToString()


def check(model: Model, content: bytes, size: tuple[int, int], *, tolerance: float) -> float:
    """The largest difference of the file's means from the model's, on a random picture.

    Raises:
      UserError: where it is above the tolerance.
    """
    import onnxruntime

    generator = np.random.default_rng(0)
    mask = (generator.uniform(size=(1, *size, 1)) < 0.4).astype(np.float32)
    if _find_cell(model):
        mask[:, -3:] = -1  # as if the picture ended there
    image = generator.uniform(size=(1, *size, model.image_shape[-1])).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": image, "mask": mask})
    expected = jax.jit(_make_answer(model, is_blocked=False))(image, mask)
    inside = mask[..., 0] >= 0
    differences = [float(np.abs(a - b)[inside].max()) for a, b in zip(found, expected, strict=True)]
    if not max(differences) <= tolerance:
        raise UserError(
            f"ONNX Runtime's answers differ from the model's by {max(differences):g}; {tolerance:g} is the "
            "most that is allowed: nothing was written; export it by --format=stablehlo."
        )
    return max(differences)


def _round(parameter):
    """A parameter as a file of float16 stores it."""
    values = np.asarray(parameter)
    return values if values.size < MIN_HALVED else values.astype(np.float16).astype(values.dtype)


@contextlib.contextmanager
def _quiet(name):
    """Lets a logger say errors alone."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _find_cell(model):
    """The side of a cell in pixels where any size can be taken, else None."""
    return None if model.module.tile_margin() is None else model.module.cell


def _list_sizes(model):
    cell = _find_cell(model)
    return [model.image_shape[:2]] if cell is None else [(4 * cell, 4 * cell), (12 * cell, 7 * cell)]


def _make_answer(model, *, is_blocked=True):
    """A function of image and mask, each side split into cells and what is in them where it is blocked."""
    module, variables = model.module, model.variables
    takes_inside = _find_cell(model) is not None

    def answer(image, mask):
        if is_blocked:
            (_, rows, side, columns, _, c), size = image.shape, image.shape[2]
            image = image.reshape(1, rows * side, columns * size, c)
            mask = mask.reshape(1, rows * side, columns * size, 1)
        inside = {"inside": mask > -0.5} if takes_inside else {}
        known = mask > 0.5
        completion = module.apply(variables, image, known, num_samples=1, method="complete", **inside)
        zero, one = jnp.zeros(()), jnp.ones(())  # of plain numbers jax2onnx makes float64
        clipped = jnp.minimum(jnp.maximum(completion.samples[0], zero), one)
        mean = jnp.where(known, image, clipped)
        return (mean,) if completion.scale is None else (mean, completion.scale[0])

    return answer


def _name(program, cell, size):
    """Gives inputs and outputs their names, and a picture's own shape in front of the cells."""
    from onnx import TensorProto, helper

    graph, nodes = program.graph, []
    rows, columns = size or ["height", "width"]
    for value, name in zip(list(graph.input), ("image", "mask"), strict=True):
        channels = value.type.tensor_type.shape.dim[-1].dim_value
        blocked = value.name
        graph.input.remove(value)
        graph.input.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, rows, columns, channels])
        )
        constants = {"one": [1], "cell": [cell], "channels": [channels]}
        for key, values in constants.items():
            graph.initializer.append(helper.make_tensor(f"{name}_{key}", TensorProto.INT64, [1], values))
        for axis, side in ((1, "height"), (2, "width")):
            nodes.append(helper.make_node("Shape", [name], [f"{name}_{side}"], start=axis, end=axis + 1))
            nodes.append(
                helper.make_node("Div", [f"{name}_{side}", f"{name}_cell"], [f"{name}_{side}_cells"])
            )
        parts = ["one", "height_cells", "cell", "width_cells", "cell", "channels"]
        nodes.append(
            helper.make_node("Concat", [f"{name}_{part}" for part in parts], [f"{name}_shape"], axis=0)
        )
        nodes.append(helper.make_node("Reshape", [name, f"{name}_shape"], [blocked]))
    for value, name in zip(list(graph.output), ("mean", "deviation"), strict=False):
        channels = value.type.tensor_type.shape.dim[-1].dim_value
        graph.output.remove(value)
        graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, rows, columns, channels])
        )
        graph.node.append(helper.make_node("Identity", [value.name], [name]))
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _halve_parameters(program):
    """Stores large parameters as float16, and makes float32 of them again where the file is read."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = program.graph, []
    for parameter in list(graph.initializer):
        if parameter.data_type != TensorProto.FLOAT or np.prod(parameter.dims) < MIN_HALVED:
            continue
        half = numpy_helper.from_array(
            numpy_helper.to_array(parameter).astype(np.float16), f"{parameter.name}_half"
        )
        casts.append(helper.make_node("Cast", [half.name], [parameter.name], to=TensorProto.FLOAT))
        graph.initializer.remove(parameter)
        graph.initializer.append(half)
    for cast in casts:
        graph.node.insert(0, cast)
