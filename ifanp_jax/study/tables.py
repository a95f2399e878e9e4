"""The tables of a study: `study.md`, `study.csv` and `study.json`."""

import json
import pathlib

from ifanp_jax import files
from ifanp_jax.evaluation import scores, tables
from ifanp_jax.evaluation.tables import Table
from ifanp_jax.study.one_run import short_name

PUBLISHED_COLUMNS = ("method", "l1 %", "l2 %", "PSNR", "TV %", "SSIM")


def write(study: dict, workdir: str | pathlib.Path) -> None:
    """Writes `study.csv`, `study.md` and, last, `study.json`."""
    workdir = pathlib.Path(workdir)
    _tabulate_numbers(study).write_csv(workdir / "study.csv")
    files.write_whole(workdir / "study.md", tables.markdown_page(caption(study), list_tables(study)))
    files.write_whole(workdir / "study.json", json.dumps(study, indent=2) + "\n")


def terminal_page(study: dict) -> str:
    """Caption and tables in lines of at most 80 characters."""
    return tables.terminal_page(caption(study), list_tables(study))


def _tabulate_numbers(study):
    """Every mean and interval, one row for each method and context."""
    flat = []
    for row in study["rows"] + study["classical"]:
        numbers = {name: value for name, value in row.items() if not isinstance(value, list)}
        intervals = {name: value for name, value in row.items() if name.endswith("_interval")}
        numbers |= {f"{name}_low": low for name, (low, _) in intervals.items()}
        flat.append(numbers | {f"{name}_high": high for name, (_, high) in intervals.items()})
    head = list(dict.fromkeys(name for numbers in flat for name in numbers))
    return Table(head, [[numbers.get(name) for name in head] for numbers in flat])


def list_tables(study: dict) -> list[Table]:
    """Every context with all methods, paired differences, the models, and what papers print."""
    contexts = {tables.label(row): row for row in study["rows"]}
    shown = [_tabulate_context(study, name, cell) for name, cell in contexts.items()]
    rounds = [
        (f"{tables.label(row)}, {short_name(row['method'])}", row)
        for row in study["rows"]
        if "rounds_psnr_one" in row
    ]
    if rounds:
        note = tables.explain_rounds(study["rounds"])
        shown.append(
            tables.tabulate(rounds, tables.ROUNDS, head="context", title="Samples by rounds", note=note)
        )
    for name, cell in contexts.items():
        rows = scores.rows_of_context(study["rows"] + study["classical"], cell)
        if holes := tables.name_holes(rows, show_method=short_name):
            title = f"Holes: {name} observed; masks {cell['sha256']}"
            note = tables.explain_holes(study["missing"])
            shown.append(tables.tabulate(holes, tables.HOLES, head="method", title=title, note=note))
    shown += [_tabulate_differences(study, contexts), _tabulate_models(study)]
    for group in study["published_inpainters"]:
        rows = [[str(row.get(name, "")) for name in PUBLISHED_COLUMNS] for row in group["rows"]]
        shown.append(
            Table(PUBLISHED_COLUMNS, rows, title=f"Published: {group['title']}", note=group["protocol"])
        )
    return shown


def _tabulate_context(study, name, cell):
    """Models, what the paper prints of them, and the best classical method, in one context."""
    named = [(short_name(row["method"]), row) for row in scores.rows_of_context(study["rows"], cell)]
    published = scores.rows_of_context(study["published"], cell)
    for row in published:
        # All digits that the paper prints.
        texts = {"psnr": str(row["psnr"]), "kl": f"{row['kl']:f}"}
        named.append((f"paper, {short_name(row['method'])}", texts))
    if best := scores.best_classical(study["classical"], cell):
        named.append((f"{short_name(best['method'])}, first {best['num_images']} images", best))
    note = _published_note(study) if published else ""
    return tables.tabulate(named, tables.GENERAL, head="method", title=f"Observed: {name}", note=note)


def _published_note(study):
    return (
        "The paper's rows are the numbers that it prints. It does not state its protocol: of how many "
        "samples a prediction is, whether it is clipped, and whether the KL is a sum or a mean. Ours is the "
        f"clipped mean of {study['num_samples']} samples, and our KL is a sum over the dimensions of z."
    )


def _tabulate_differences(study, contexts):
    texts = {}
    for entry in study["comparisons"]:
        low, high = entry["interval"]
        names = (
            entry["metric"],
            short_name(entry["lower"]),
            short_name(entry["higher"]),
            str(entry["num_images"]),
        )
        cells = texts.setdefault(names, {})
        cells[tables.label(entry)] = f"{entry['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
    rows = [
        [*names, *(cells.get(name, "") for name in contexts)]
        for names, cells in sorted(texts.items(), key=lambda item: _METRICS.index(item[0][0]))
    ]
    title = "Paired differences, dB, image by image (95 % interval)"
    return Table(["metric", "from", "to", "images", *contexts], rows, title=title)


_METRICS = ("psnr", "psnr_completed", "hole_psnr")


def _tabulate_models(study):
    has_critics = any(facts["adversarial"] for facts in study["models"].values())
    head = ["model", "parameters", "steps", "training, minutes", "raw PSNR by seed, first context", "fields"]
    rows = [
        [
            short_name(model),
            f"{facts['num_parameters']:,}",
            f"{facts['num_steps']:,}",
            show_minutes(facts["training_seconds"]),
            ", ".join(f"{value:.2f}" for value in facts["psnr_by_seed"]),
            ", ".join(f"{name} {value}" for name, value in facts["fields"].items()),
            *([_show_critics(facts)] if has_critics else []),
        ]
        for model, facts in study["models"].items()
    ]
    return Table([*head, *(["critics"] if has_critics else [])], rows, title="Models")


def _show_critics(facts):
    critics = facts["adversarial"] or ""
    if critics not in ("", "none") and facts["num_critic_updates"] > 1:
        critics += f", {facts['num_critic_updates']} updates to one"
    return critics


def show_minutes(seconds: float | None) -> str:
    """Seconds as minutes; "" for None."""
    return "" if seconds is None else f"{seconds / 60:.1f}"


def caption(study: dict) -> str:
    """What was trained and tested, in sentences on one line."""
    seeds = ", ".join(map(str, study["seeds"]))
    likelihood = f" The likelihood is {tables.show_likelihood(study)}." if study["likelihood"] else ""
    steps = {facts["num_steps"] for facts in study["models"].values()}
    num_steps = (
        f"{steps.pop()} steps" if len(steps) == 1 else "the steps that the table of models gives, each"
    )
    if study["minutes"]:
        num_steps = f"as many steps as fit in {study['minutes']:g} minutes of one core, each"
    return (
        f"Every model was trained on {study['data']} {tables.show_shape(study)} for {num_steps} "
        f"of {study['batch_size']} of {study['num_training_images']:,} training images. The peak "
        f"learning rate was {study['learning_rate']}, the moving average {study['ema_decay']}, and the seeds "
        f"were {seeds}{tables.show_protocol(study)}. The training contexts were {_show_masks(study)}, "
        f"with the target {study['target']}.{likelihood}{_changes_note(study)} The tests are on "
        f"{study['rows'][0]['num_images']} held-out images (split {study['eval_split']}) in the same "
        f"contexts for every model. The prediction is the mean of {study['num_samples']} samples drawn from "
        "q(z given the context), clipped to [0, 1]. Intervals are over the images, not over trainings: "
        "another seed may move a model further."
    )


def _show_masks(study):
    if study["mask"] == "inpainting":
        return (
            "holes (" + ", ".join(f"{kind} {share:g}" for kind, share in study["hole_shares"].items()) + ")"
        )
    fractions = " to ".join(f"{fraction:.0%}" for fraction in study["mask_fraction"])
    return f"{study['mask']}, {fractions} observed"


def _changes_note(study):
    """What a name with a change means."""
    notes = [
        f' "{name.replace("_", " ")}" behind a name changes this: {", ".join(fields)}.'
        for name, fields in study["changes"].items()
    ]
    if not study["has_one_target"]:
        notes.append(
            " The log-likelihoods, but those by rounds, are of the target pixels of each training: compare "
            "them among trainings of one target."
        )
    return "".join(notes)
