"""The files that an evaluation leaves in a working directory, and its tables."""

import contextlib
import json
import logging
import pathlib
from collections.abc import Iterator

import numpy as np

from ifanp_jax import files
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate, panels, scores, tables
from ifanp_jax.evaluation.contexts import Contexts, keep_holes, load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.evaluation.tables import Table
from ifanp_jax.inference.model import Model
from ifanp_jax.runtime import device_mesh

logger = logging.getLogger(__name__)


def make(
    model: Model,
    dataset: Dataset,
    workdir: str | pathlib.Path,
    *,
    options: Options | None = None,
    contexts: Contexts | None = None,
    is_printed: bool = True,
) -> dict | None:
    """Evaluates a model, writes tables and figures, and prints the tables.

    Args:
      model: trained.
      dataset: its held-out images.
      workdir: that exists; the holes of an earlier evaluation there are met again.
      options: None = those of the model's configuration.
      contexts: of the held-out images that count; None = as the options say.
      is_printed: False = nothing is printed.

    Returns:
      What `evaluation.json` holds; None in another process than the first, which only evaluates.
    """
    options = options or Options.of(model.config)
    if contexts is None:
        shape = dataset.evaluation[: options.num_images or None].shape[:3]
        contexts = load_contexts(options, shape, folder=workdir)
    keep_holes(contexts, workdir)
    evaluation, values = evaluate.evaluate(model, dataset, options=options, contexts=contexts)
    if not device_mesh.is_first_process():  # it also evaluates, so that none waits for long
        return None
    write(evaluation, values, workdir)
    logger.info("Drawing the figures.")
    panels.draw(model, dataset, evaluation, workdir, options, contexts=contexts)
    if is_printed:
        print(tables.terminal_page(caption(evaluation), list_tables(evaluation)))
    logger.info("Wrote the tables and figures to %s.", workdir)
    return evaluation


def write(evaluation: dict, values: scores.Values, workdir: str | pathlib.Path) -> None:
    """Writes `evaluation.md`, `evaluation.npz` (the values per image) and, last, `evaluation.json`."""
    workdir = pathlib.Path(workdir)
    with files.replacing(workdir / "evaluation.npz") as unfinished:
        np.savez(unfinished, **values)
    page = tables.markdown_page(caption(evaluation), list_tables(evaluation))
    files.write_whole(workdir / "evaluation.md", page)
    files.write_whole(workdir / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")


def read(workdir: pathlib.Path) -> dict:
    """Reads `evaluation.json`.

    Raises:
      UserError: when it is damaged.
    """
    with _refusing_damage(workdir):
        return json.loads((workdir / "evaluation.json").read_text())


def read_values(workdir: pathlib.Path) -> scores.Values:
    """Reads `evaluation.npz`.

    Raises:
      UserError: when it is damaged.
    """
    with (
        _refusing_damage(workdir),
        (workdir / "evaluation.npz").open("rb") as file,  # NumPy leaves it open when it is damaged
        np.load(file, allow_pickle=False) as archive,
    ):
        return dict(archive)


@contextlib.contextmanager
def _refusing_damage(workdir) -> Iterator[None]:
    try:
        yield
    except files.DAMAGED as error:
        raise UserError(
            f"The evaluation in {workdir} cannot be read ({error}); remove its evaluation.json, and the "
            "same command evaluates the run again."
        ) from None


def caption(evaluation: dict) -> str:
    """What was measured, in a sentence."""
    cells = evaluation["cells"]
    count = cells[0]["num_images"] if cells else evaluation["held_out_images"]["num_images"]
    likelihood = ""
    if any("log_prob" in cell for cell in cells):
        likelihood = f"; likelihood {tables.show_likelihood(evaluation)}, target {evaluation['target']}"
    return (
        f"{evaluation['model']} on {evaluation['data']} {tables.show_shape(evaluation)} was measured at step "
        f"{evaluation['step']}, with {evaluation['num_parameters']:,} parameters, on {count} held-out images "
        f"by {evaluation['num_samples']} samples{tables.show_protocol(evaluation)}{likelihood}."
    )


def list_tables(evaluation: dict) -> list[Table]:
    """All tables of an evaluation: every context, every classical method, samples by rounds, holes."""
    classical = evaluation["classical"]
    cells = [(tables.label(cell), cell | scores.show_best(classical, cell)) for cell in evaluation["cells"]]
    if not cells:
        return []
    shown = [tables.tabulate(cells, tables.GENERAL, head="context")]
    if classical:
        shown.append(_tabulate_classical(cells, classical))
    if any("rounds_psnr_one" in cell for _, cell in cells):
        note = tables.explain_rounds(evaluation["rounds"])
        shown.append(
            tables.tabulate(cells, tables.ROUNDS, head="context", title="Samples by rounds", note=note)
        )
    if holes := tables.name_holes(evaluation["cells"] + evaluation["blended"] + classical):
        note = tables.explain_holes(evaluation["missing"])
        shown.append(tables.tabulate(holes, tables.HOLES, head="hole", title="Holes", note=note))
    return shown


def _tabulate_classical(cells, classical):
    """PSNR of the completed image, by context and method."""
    methods = list(dict.fromkeys(row["method"] for row in classical))
    rows = []
    for name, cell in cells:
        found = {row["method"]: row["psnr_completed"] for row in scores.rows_of_context(classical, cell)}
        rows.append([name, *(f"{found[method]:.2f}" if method in found else "" for method in methods)])
    title = f"Classical methods, PSNR of the completed image, dB, first {classical[0]['num_images']} images"
    return Table(["context", *methods], rows, title=title)
