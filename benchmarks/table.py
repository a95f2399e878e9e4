"""The numbers of `speed.run` as a table."""

from ifanp_jax.evaluation import tables

SUMMARY_HEAD = (
    "model", "dtype", "images/s", "step", "TFLOP/s", "share of the measured GEMM, TFLOP/s", "temporary, MiB",
    "loop against step", "compiling, s",
)  # fmt: skip
HEAD = ("what", "value", "milliseconds, memory")


def list_lines(result: dict) -> list[str]:
    """The lines of caption and table, in Markdown.

    Args:
      result: of `speed.run`.
    """
    return [caption(result), "", *tables.markdown_table(HEAD, list_rows(result))]


def caption(result: dict) -> str:
    """One line that says what the numbers are."""
    shape = "x".join(map(str, result["image_shape"]))
    width = f" of width {result['width']}" if result["width"] else ""
    return (
        f"{result['model']}{width}, images {shape}, {result['dtype']}, batch "
        f"{result['batch_size']}, {result['steps_per_dispatch']} steps per dispatch, on "
        f"{result['num_devices']} x {result['device']}, jax {result['jax']}, Python {result['python']}. "
        "Medians (fastest to slowest), forward and backward unless said otherwise."
    )


def list_summary(results: list[dict]) -> list[str]:
    """One table with a row for each of several results of one machine, in Markdown.

    Args:
      results: of `speed.run`, each with the section "training".
    """
    device = results[0]
    rows = []
    for result in results:
        entry, shape = result["training"], "x".join(map(str, result["image_shape"]))
        rows.append(
            (
                f"{result['model']}, {shape}, batch {result['batch_size']}",
                result["dtype"],
                f"{entry['images_per_second']:,.0f}",
                _milliseconds(entry),
                f"{entry['mflops_per_image'] * entry['images_per_second'] / 1e6:,.1f}",
                f"{entry['gemm_share']:.0%} of {result['gemm']['gflops_per_second'] / 1e3:,.1f}",
                f"{entry['temporary_mib']:,.0f}",
                f"{entry['loop_overhead']:+.1%}",
                f"{entry['compile_seconds']:.0f}",
            )
        )
    caption = f"{device['num_devices']} x {device['device']}, jax {device['jax']}, Python {device['python']}."
    return [caption, "", *tables.markdown_table(SUMMARY_HEAD, rows)]


def list_rows(result: dict) -> list[tuple[str, str, str]]:
    """The table: what was measured, the value, and what it must be read with."""
    gemm = result["gemm"]
    rows = [(f"GEMM {gemm['size']}", f"{gemm['gflops_per_second']:,.0f} GFLOP/s", _milliseconds(gemm))]
    for name, list_section in _SECTIONS.items():
        if name in result:
            rows += list_section(result[name])
    return rows


def _list_training(entry):
    return [
        ("training step", _rate(entry), _memory(entry)),
        ("- of the GEMM rate", f"{entry['gemm_share']:.0%}", f"{entry['mflops_per_image']:,.0f} MFLOP/image"),
        ("- compilation", f"{entry['compile_seconds']:.1f} s", f"peak {entry['peak_mib']:,.0f} MiB"),
        ("- loop against step alone", f"{entry['loop_overhead']:+.1%}", _milliseconds(entry["loop"])),
        (
            "- gather on the device against constant images",
            f"{entry['resident_overhead']:+.1%}",
            _milliseconds(entry["constant_images"]),
        ),
        (
            "- loop streamed against resident",
            f"{entry['streamed_overhead']:+.1%}",
            _milliseconds(entry["streamed_loop"]),
        ),
    ]


def _list_parts(parts):
    rows = []
    for part in parts:
        share = f"{part['gemm_share']:.0%} of GEMM" if part.get("gemm_share") else ""
        forward = f"; forward {part['forward_milliseconds']:.1f}" if "forward_milliseconds" in part else ""
        rows.append((f"part: {part['part']}", share, _milliseconds(part) + forward))
    return rows


def _list_comparison(entry):
    b, side, d = entry["shape"].values()
    ratios = f"{entry['time_ratio']:.1f}x faster"
    if entry["memory_ratio"] > 1:
        ratios += f", memory {entry['memory_ratio']:.0f}x smaller"
    rows = [(f"{entry['name']}, B={b}, {side}x{side}, D={d}, {entry['dtype']}", ratios, _memory(entry))]
    return rows + [(f"- {name}", "", _memory(other)) for name, other in entry["alternatives"].items()]


def _list_completion(entries):
    rows = []
    for name in ("one_image", "batch"):
        entry = entries[name]
        what = f"completion, {entry['num_samples']} samples, batch {entry['batch_size']}"
        rows.append((what, _rate(entry), _milliseconds(entry)))
    return rows + [_list_picture(entry) for entry in entries["pictures"]]


def _list_picture(entry):
    h, w = entry["size"]
    what = f"picture {h}x{w}, {entry['method']}"
    if "rounds" in entry:
        what += f", {entry['num_samples']} answers of {entry['rounds']} rounds"
    if "left_out" in entry:
        return what, "left out", entry["left_out"]
    first = f"first {entry['first_seconds']:.2f} s, {entry['peak_mib']:,.0f} MiB"
    return what, f"{entry['seconds']:.2f} s", first


def _list_scaling(entries):
    return [
        (
            f"training {entry['side']}x{entry['side']}, batch {entry['batch_size']}",
            f"{_rate(entry)}, {entry['gemm_share']:.0%} of GEMM",
            _memory(entry),
        )
        for kind in ("side", "batch_size")
        for entry in entries[kind]
    ]


def _list_devices(entries):
    rows = []
    for entry in entries:
        name = f"{entry['num_devices']} {'fake ' if entry['is_fake'] else ''}devices"
        if entry["is_fake"]:
            difference = f"losses within {entry['largest_relative_difference']:.0e} of one device's"
            rows.append((name, "correctness only", difference))
        else:
            rows.append((f"{name}, batch {entry['batch_size']}", _rate(entry), _milliseconds(entry)))
    return rows


def _list_start(entry):
    if not entry:
        return []
    cached = f"{entry['warm_seconds']:.1f} s with a warm --compilation_cache"
    return [("process start to end of first step", f"{entry['cold_seconds']:.1f} s", cached)]


_SECTIONS = {
    "training": _list_training,
    "parts": _list_parts,
    "gca": _list_comparison,
    "lpa": _list_comparison,
    "attention": _list_comparison,
    "completion": _list_completion,
    "scaling": _list_scaling,
    "devices": _list_devices,
    "start": _list_start,
}


def _rate(entry):
    return f"{entry['images_per_second']:,.1f} images/s"


def _milliseconds(entry):
    low, high = entry["milliseconds_range"]
    return f"{entry['milliseconds']:.2f} ms ({low:.2f} to {high:.2f})"


def _memory(entry):
    return f"{_milliseconds(entry)}, {entry['temporary_mib']:,.0f} MiB"
