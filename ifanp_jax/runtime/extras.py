"""Optional packages, by the extra that installs them: pip install 'ifanp_jax[NAME]'."""

import importlib.util

from ifanp_jax.errors import UserError

# Names as they are imported; the extras of pyproject.toml.
EXTRAS = {
    "classical": ("skimage", "sklearn", "threadpoolctl"),
    "train": (
        "array_record", "grain", "importlib_resources", "matplotlib", "skimage", "sklearn", "tensorboardX",
        "threadpoolctl",
    ),
    "export": ("flatbuffers",),
    "onnx": ("jax2onnx", "onnx", "onnxruntime"),
    "web": ("python_multipart", "starlette", "uvicorn"),
}  # fmt: skip


def require(extra: str, purpose: str) -> None:
    """Raises a UserError where a package of an extra is missing, before anything is computed.

    Args:
      extra: of EXTRAS.
      purpose: what needs it, as the beginning of a sentence.
    """
    missing = next((name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        raise UserError(
            f"{purpose} needs the package {missing}, which is not installed; install it with: "
            f"pip install 'ifanp_jax[{extra}]'."
        )
