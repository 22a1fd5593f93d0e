"""docs/performance.md from the results of all machines: python -m benchmarks.report

Tables hold losses beside wins; where an axis was varied (K, B, N), time and memory are plotted against it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
OURS = "motionops"
# An axis is plotted from this many points on.
POINTS = 3
AXES = {"K": "rows of the queue, K", "B": "batch, B", "N": "rows, N"}

HEAD = """# Performance

Written by `make performance` from [benchmarks/results](../benchmarks/results): change the measurements, not this page.
[benchmarks/README.md](../benchmarks/README.md) says how they are made: nothing is timed that differs from the
reference (a peer that does is named with its difference), operator and peers run in turns, and memory is the peak over
what was taken before a call.

**×** is how many times longer the peer takes than the operator: below 1, in bold, the peer is faster. Times are
medians; compare the ratios of one row, not the times of different machines. *within 10%*: a peer that rounds more than
its inputs' type does may differ by so much of the largest value. *share* is of the bandwidth of a plain copy
(above 100 % where data stay in a cache) or of the rate of a large matrix product, in float32 where no other type is
named, both measured in the same run.
"""


def load(folder: Path) -> list[dict]:
    """The contents of a machine's files, sorted by operator."""
    contents = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [content for content in contents if "op" in content and "results" in content]


def page(results: Path, pictures: Path) -> str:
    """The page's text; its plots are written into `pictures`."""
    parts = [HEAD]
    machines = [(folder, load(folder)) for folder in sorted(results.iterdir()) if folder.is_dir()]
    machines = [(folder, contents) for folder, contents in machines if contents]
    # GPUs first: they are what most readers have.
    machines.sort(key=lambda machine: not any(r["device"] == "cuda" for c in machine[1] for r in c["results"]))
    if not any(record["device"] == "cuda" for _, contents in machines for c in contents for record in c["results"]):
        parts.append(
            "No GPU has been measured yet; `make gpu` on one adds it. Nothing here says how fast the kernels are.\n"
        )
    for folder, contents in machines:
        parts.append(machine_head(contents))
        parts += [file.read_text() for file in [folder / "notes.md"] if file.exists()]
        parts += [steps_table(rows) for rows in [load_steps(folder)] if rows]
        for content in contents:
            parts.append(f"### {content['op']}\n")
            for device in sorted({record["device"] for record in content["results"]}):
                records = [record for record in content["results"] if record["device"] == device]
                title = f"On the {'GPU' if device == 'cuda' else 'CPU'}"
                parts.append(table(title, records))
                for axis, template, points in varied(records):
                    name = f"{folder.name}-{device}-{content['op']}-{axis.lower()}.svg"
                    plot(pictures / name, axis, points)
                    parts.append(f"![{content['op']}: time and memory against {axis}]({pictures.name}/{name})\n")
                    parts.append(f"{template}: {growth(axis, points)}\n")
    return "\n".join(parts)


def load_steps(folder: Path) -> dict[str, dict]:
    """name -> what --profile said of a training step, from the files of benchmarks/step.py."""
    rows = {file.stem: json.loads(file.read_text()) for file in sorted((folder / "step").glob("*.json"))}
    return {name: row for name, row in rows.items() if "steps" in row}


def steps_table(rows: dict[str, dict]) -> str:
    """Where the steps go: a column a run, a line a part."""
    lines = ["### A training step\n", "| ms | " + " | ".join(rows) + " |", "|---|" + "---:|" * len(rows)]
    runs = [row["run"] for row in rows.values()]
    facts = {
        "network": lambda run: run["backbone"],
        "clip": lambda run: f"{run['frames']}×{run['size']}²",
        "videos": lambda run: run["batch_size"],
        "arithmetic": lambda run: run["precision"],
    }
    lines += [f"| {name} | " + " | ".join(str(fact(run)) for run in runs) + " |" for name, fact in facts.items()]
    times = [row["milliseconds"] for row in rows.values()]
    for part in dict.fromkeys(part for of_run in times for part in of_run):
        lines.append(f"| {part} | " + " | ".join(number(of_run.get(part, 0)) for of_run in times) + " |")
    lines.append("| **all** | " + " | ".join(number(sum(of_run.values())) for of_run in times) + " |")
    decoding = [number(row["decoding"]["milliseconds"]) for row in rows.values()]
    lines.append("| beside it, of a core: reading | " + " | ".join(decoding) + " |")
    lines.append("| commit | " + " | ".join(row["commit"] for row in rows.values()) + " |")
    return "\n".join(lines) + "\n"


def machine_head(contents: list[dict]) -> str:
    """What was measured on: the newest file's words."""
    newest = max(contents, key=lambda content: max(record["date"] for record in content["results"]))
    facts = newest["machine"]
    gpu = facts.get("GPU 0")
    name = (gpu or facts["processor"]).split(",")[0]
    dates = sorted({record["date"] for content in contents for record in content["results"]})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    what = [*([gpu] if gpu else []), facts["processor"], f"Python {facts['python']}", f"torch {facts['torch']}"]
    records = [record for content in contents for record in content["results"]]
    return f"## {name}\n\n{'; '.join(what)}. {when}, {commits(records)}.{ceilings(records)}\n"


def commits(records: list[dict]) -> str:
    """What was measured; the results of sources that no commit holds are counted."""
    names = sorted({record["commit"].split()[0] for record in records})
    changed = [record for record in records if record["commit"] != record["commit"].split()[0]]
    text = f"commits {', '.join(names)}"
    if not changed:
        return text
    return f"{text}; {len(changed)} of {len(records)} results, marked \\*, with changes that were not committed"


def ceilings(records: list[dict]) -> str:
    """The rates that shares are of: the medians of the machine's runs, where they were kept."""
    rates: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if "copy_gigabytes_per_second" in record:
            rates["a copy moves {:.0f} GB/s"].append(record["copy_gigabytes_per_second"])
        if "product_gigaflops" in record:
            rates[f"a product in {record['product']} runs at {{:.0f}} GFLOP/s"].append(record["product_gigaflops"])
    words = [text.format(median(values)) for text, values in sorted(rates.items())]
    return f" Measured beside them: {', '.join(words)}." if words else ""


def table(title: str, records: list[dict]) -> str:
    """A Markdown table of records: a row a case."""
    peers = list(dict.fromkeys(name for record in records for name in named(record) if name != OURS))
    head = [title, "ms", "MiB", "share", *(f"{peer}: ms, ×, MiB" for peer in peers), "targets"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
    for record in records:
        own = record["timings"][OURS]
        mark = " \\*" if record["commit"].endswith("with changes") else ""
        cells = [record["case"] + mark, number(own["median_ms"]), memory(own), share(record)]
        cells += [beside(record, peer) for peer in peers]
        cells.append(targets(record))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def named(record: dict) -> list[str]:
    """Who was timed, and who was left out."""
    return [*record["timings"], *record.get("left_out", {})]


def beside(record: dict, peer: str) -> str:
    """A peer's cell: its time, or why it has none."""
    timing = record["timings"].get(peer)
    if timing is None:
        return record.get("left_out", {}).get(peer, "").replace("|", "\\|")
    times = record["times_faster_than"][peer]
    ratio = f"**{times:.2f} ×**" if times < 1 else f"{times:.2f} ×" if times < 10 else f"{times:.0f} ×"
    bound = record.get("bounds", {}).get(peer)
    rounds = f", within {bound:.0%}" if bound else ""
    return f"{number(timing['median_ms'])}, {ratio}, {memory(timing)}{rounds}"


def targets(record: dict) -> str:
    """Which of the aims were reached; one with a value is the operator's own, the others are over a peer."""
    words = []
    for name, goal in record.get("targets", {}).items():
        verdict = "reached" if goal["reached"] else "**missed**"
        if "value" not in goal:
            words.append(f"{name} {goal['wanted']:g} ×: {verdict}")
        elif name == "ms":
            words.append(f"{goal['wanted']:g} ms: {verdict}")
        else:
            words.append(f"{goal['wanted']:.0%} {name}: {verdict} ({goal['value']:.1%})")
    return "; ".join(words)


def share(record: dict) -> str:
    """Of what the machine can do at most."""
    words = []
    if "share_of_copy" in record:
        words.append(f"{record['share_of_copy']:.0%} copy")
    if "share_of_matrix_product" in record:
        product = record.get("product", "float32").replace("float32", "", 1).strip()
        words.append(" ".join(filter(None, [f"{record['share_of_matrix_product']:.0%}", product, "product"])))
    return ", ".join(words)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def memory(timing: dict) -> str:
    """MiB, or a dash where it could not be known."""
    return "–" if timing.get("peak_mib") is None else number(timing["peak_mib"])


def varied(records: Iterable[dict]) -> list[tuple[str, str, list[tuple[int, dict]]]]:
    """The cases that differ in one number alone: [(axis, case with … for it, [(value, timings), ...]), ...]."""
    groups: dict[tuple[str, str], dict[int, dict]] = defaultdict(dict)
    for record in records:
        for axis in AXES:
            match = re.search(rf"\b{axis} (\d+)", record["case"])
            if match:
                template = record["case"][: match.start(1)] + "…" + record["case"][match.end(1) :]
                groups[axis, template][int(match[1])] = record["timings"]
    return [(axis, case, sorted(points.items())) for (axis, case), points in groups.items() if len(points) >= POINTS]


def growth(axis: str, points: list[tuple[int, dict]]) -> str:
    """How much more the largest takes than the smallest."""
    (low, first), (high, last) = points[0], points[-1]
    times = last[OURS]["median_ms"] / first[OURS]["median_ms"]
    text = f"from {axis} {low} to {high}, {high / low:.0f} times as many, time grows {times:.1f} times"
    before, after = first[OURS].get("peak_mib"), last[OURS].get("peak_mib")
    return text + ("." if before is None or after is None else f"; memory is {before:.1f} and {after:.1f} MiB.")


def plot(path: Path, axis: str, points: list[tuple[int, dict]]) -> None:
    """Time and memory against an axis, for the operator and its peers."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "motionops"  # the same results give the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    names = list(dict.fromkeys(name for _, timings in points for name in timings))
    for panel, field, title in zip(panels, ("median_ms", "peak_mib"), ("time, ms", "memory, MiB"), strict=True):
        for name in names:
            known = [(x, t[name][field]) for x, t in points if name in t and t[name].get(field)]
            if known:
                panel.plot(
                    *zip(*known, strict=True), marker="o", markersize=3, label=name, linewidth=2 if name == OURS else 1
                )
        panel.set(xscale="log", yscale="log", xlabel=AXES[axis], title=title)
        panel.set_xticks([x for x, _ in points], [shortened(x) for x, _ in points])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def shortened(value: int) -> str:
    """4096 as 2^12."""
    power = value.bit_length() - 1
    return f"$2^{{{power}}}$" if value >= 1024 and value == 1 << power else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(description="Write docs/performance.md from benchmarks/results.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of machines' folders of JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="file to write; plots go to a folder beside it")
    options = parser.parse_args(arguments)
    if not options.results.is_dir():
        parser.error(f"--results: there is no folder {options.results}")
    pictures = options.page.with_suffix("")
    if pictures.is_dir():
        for old in pictures.glob("*.svg"):
            old.unlink()
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(options.results, pictures))
    print(f"written: {options.page}, {len(list(pictures.glob('*.svg')))} plots")
    return 0


if __name__ == "__main__":
    sys.exit(main())
