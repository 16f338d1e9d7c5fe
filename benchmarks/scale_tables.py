"""The tables and the picture of ``docs/scale.md``: measured speeds by size, and arithmetic for a larger model.

The plan's prices, peaks and shares of peaks are assumptions, written out in `Plan`; change them here and run
``python -m benchmarks.scale --tables``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, Json, put, read_json, table
from confide.evaluation.wording import some
from confide.files import written

PAGE = "docs/scale.md"
PICTURES = ROOT / "docs" / "pictures"
STEPS = {"read": "read an answer, with states", "write": "write an answer", "train": "train the reader"}
COLOURS = {"read": "#1f77b4", "write": "#2ca02c", "train": "#d62728"}


@dataclass(frozen=True)
class Plan:
    """What the plan assumes. Shape: Llama 3.1 70B. Peaks: NVIDIA's data sheet of the H100 SXM, dense bfloat16.

    Attributes:
        price: dollars per GPU-hour, on demand.
        reading: share of the peak that reading and training reach; ``writing``: that writing reaches in full batches.
        moved: bytes per second that a network disk takes.
    """

    questions: int = 10_000_000
    trained_rows: int = 100_000
    epochs: int = 3
    prompt: int = 150
    answer: int = 50
    layers: int = 80
    width: int = 8192
    feed: int = 28_672
    vocabulary: int = 128_256
    kv_width: int = 1024
    rank: int = 8
    gpus: int = 8
    memory: float = 80e9
    peak: float = 989e12
    reading: float = 0.4
    writing: float = 0.1
    price: float = 3.0
    priced: str = "May 2026, H100 SXM on demand: 2.50 to 3.50 at specialised clouds, 1.99 to 5.00 over all"
    price_source: str = "https://www.mercatus-ai.com/blog/cloud-gpu-pricing"

    @property
    def inside(self) -> float:
        """Weights of the decoder layers."""
        return self.layers * (2 * self.width**2 + 2 * self.width * self.kv_width + 3 * self.width * self.feed)

    @property
    def weights(self) -> float:
        """All weights; embedding and output layer are two."""
        return self.inside + 2 * self.vocabulary * self.width

    @property
    def adapter(self) -> float:
        """Low-rank weights on all linear layers."""
        ends = 2 * (2 * self.width) + 2 * (self.width + self.kv_width) + 3 * (self.width + self.feed)
        return self.layers * self.rank * ends

    @property
    def kv(self) -> float:
        """Bytes of keys and values a token."""
        return 2 * self.layers * self.kv_width * 2

    def hours(self, flops: float, share: float) -> float:
        """GPU-hours."""
        return flops / (self.peak * share) / 3600


def exponent(sizes: list[Json], name: str) -> tuple[float, float, float]:
    """b of seconds a token ∝ (parameters inside the layers)^b, and the lowest and highest b of single rounds."""
    x = np.log([size["inside"] for size in sizes])
    rounds = np.log([size[name]["rounds"] for size in sizes])
    single = [float(np.polyfit(x, rounds[:, i], 1)[0]) for i in range(rounds.shape[1])]
    middle = float(np.polyfit(x, -np.log([size[name]["tokens_per_second"] for size in sizes]), 1)[0])
    return middle, min(single), max(single)


def sizes_table(found: Json) -> str:
    """Tokens a second and operations a second, by size."""
    lines = []
    for size in found["sizes"]:
        speeds = [size[name]["tokens_per_second"] for name in STEPS]
        flops = [2 * size["inside"] * size["read"]["tokens_per_second"] / 1e9]
        lines.append(
            [
                f"{size['times']}×",
                f"{size['parameters'] / 1e6:.0f}M",
                f"{size['inside'] / 1e6:.0f}M",
                *(f"{speed:,.0f}" for speed in speeds),
                f"{flops[0]:.0f}",
            ]
        )
    exponents = [exponent(found["sizes"], name) for name in STEPS]
    lines.append(["exponent", "", "", *(f"{b:.2f} [{low:.2f}, {high:.2f}]" for b, low, high in exponents), ""])
    head = (
        "size | >parameters | >in the layers | >read, tokens/s | >write, tokens/s | >train, tokens/s | >read, GFLOP/s"
    )
    return table(head, lines)


def checkpointing_table(found: Json) -> str:
    """Memory and time with and without gradient checkpointing."""
    part = found["checkpointing"]
    lines = [
        [
            label,
            f"{part[name]['megabytes']:,.0f} MB",
            f"{part[name]['megabytes'] - part[name]['megabytes_before']:,.0f} MB",
            f"{part[name]['seconds']:.1f} s",
        ]
        for name, label in (("kept", "without"), ("again", "with `--gradient-checkpointing`"))
    ]
    return table(f"{some(part['rows'], 'row')} of {part['tokens']} tokens | >peak | >of it the steps' | >a step", lines)


def short_table(found: Json) -> str:
    """Three ways to batch short rows."""
    part = found["short_rows"]
    names = {"as they come": "padded, as they come", "by length": "padded, by length (what confide does)"}
    names["packed"] = "packed: one sequence, no padding"
    slowest = part["as they come"]["tokens_per_second"]
    return table(
        "batches of 16 rows of 30 to 80 tokens | >padding | >tokens/s | >times the first | >loss",
        [
            [
                names[name],
                f"{entry['padding']:.0%}",
                f"{entry['tokens_per_second']:,.0f}",
                f"{entry['tokens_per_second'] / slowest:.2f}",
                f"{entry['loss']:.3f}",
            ]
            for name, entry in part.items()
        ],
    )


def bytes_table(found: Json, plan: Plan) -> str:
    """Bytes a row, measured and for the plan."""
    part, states = found["bytes"], len_states(plan)
    small = found["sizes"][0]["state_bytes"]
    return table(
        "what is kept | >here, a row | >the plan | >together",
        [
            [
                "annotated row, JSON",
                f"{part['annotated']:,.0f} B",
                f"{plan.questions:,}",
                tera(part["annotated"] * plan.questions),
            ],
            [
                "scored row, JSON",
                f"{part['scored']:,.0f} B",
                f"{plan.questions:,}",
                tera(part["scored"] * plan.questions),
            ],
            [
                "states for the stack, float16",
                f"{small:,.0f} B (plan: {states / 1e3:,.0f} kB)",
                f"{plan.trained_rows:,}",
                tera(states * plan.trained_rows),
            ],
            ["the same, of all questions", "", f"{plan.questions:,}", tera(states * plan.questions)],
        ],
    )


def len_states(plan: Plan) -> float:
    """Bytes of a row's states: five layers, three positions."""
    return 5 * 3 * plan.width * 2


def tera(value: float) -> str:
    """Bytes in words."""
    return f"{value / 1e12:.1f} TB" if value >= 1e12 else f"{value / 1e9:.1f} GB"


def memory_table(found: Json, plan: Plan) -> str:
    """Memory of the plan's steps."""
    rows, tokens = 16, plan.prompt + plan.answer
    kept, again = 34 * plan.width * plan.layers, 2 * plan.width * plan.layers
    each = plan.memory / 1e9
    train = 2 * plan.weights / plan.gpus + 16 * plan.adapter / plan.gpus
    step = rows * tokens / plan.gpus
    return table(
        "memory | arithmetic | >GB",
        [
            ["weights, bfloat16", f"2 B × {plan.weights / 1e9:.1f}G", f"{2 * plan.weights / 1e9:,.0f}"],
            [
                "keys and values, of 256 answers at once",
                f"{plan.kv / 1e3:.0f} kB × {tokens} tokens × 256",
                f"{plan.kv * tokens * 256 / 1e9:,.0f}",
            ],
            [
                "LoRA of rank 8, gradient, two moments, float32",
                f"16 B × {plan.adapter / 1e6:.0f}M",
                f"{16 * plan.adapter / 1e9:.1f}",
            ],
            [
                "the same for all weights (not what confide trains)",
                f"16 B × {plan.weights / 1e9:.1f}G",
                f"{16 * plan.weights / 1e9:,.0f}",
            ],
            [
                f"activations, {rows} rows of {tokens} tokens",
                f"34 B × {plan.width} × {plan.layers} layers a token",
                f"{kept * rows * tokens / 1e9:.0f}",
            ],
            [
                "the same with gradient checkpointing",
                f"2 B × {plan.width} × {plan.layers} layers a token",
                f"{again * rows * tokens / 1e9:.1f}",
            ],
            [
                f"**a GPU of {plan.gpus}, training under FSDP**",
                "a share of weights and of the step's rows",
                f"**{(train + kept * step) / 1e9:.0f} of {each:.0f}**",
            ],
        ],
    )


def plan_table(plan: Plan) -> str:
    """Hours and money of each step."""
    asked, told = plan.questions * plan.prompt, plan.questions * plan.answer
    n, some = plan.inside, plan.trained_rows * (plan.prompt + plan.answer)
    few = plan.trained_rows // 5
    steps = [
        ("annotate", "vLLM, by Ray", f"2N × {asked:.2g} tokens read", 2 * n * asked, plan.reading),
        ("", "", f"2N × {told:.2g} tokens written", 2 * n * told, plan.writing),
        ("states of a sample", "one node", f"2N × {some:.2g} tokens", 2 * n * some, plan.reading),
        (
            "train Self-REF or a reader",
            "FSDP",
            f"6N × {some:.2g} tokens × {plan.epochs} epochs",
            6 * n * some * plan.epochs,
            plan.reading,
        ),
        ("score by a reader", "vLLM, by Ray", f"2N × {asked + told:.2g} tokens", 2 * n * (asked + told), plan.reading),
        ("score by the stack in vLLM", "vLLM", "no pass of its own", 0.0, plan.reading),
    ]
    lines = []
    total = 0.0
    for name, where, arithmetic, flops, share in steps:
        hours = plan.hours(flops, share)
        total += hours
        lines.append(
            [
                name,
                where,
                arithmetic,
                f"{share:.0%}",
                f"{hours:,.0f}",
                f"{hours / plan.gpus:,.0f}",
                f"${hours * plan.price:,.0f}",
            ]
        )
    lines.append(
        [
            "**together**",
            "",
            "",
            "",
            f"**{total:,.0f}**",
            f"**{total / plan.gpus:,.0f}**",
            f"**${total * plan.price:,.0f}**",
        ]
    )
    lines.append(["calibrate, validate, evaluate", "one machine of CPUs", f"on {few:,} rows and more", "", "0", "", ""])
    return table(
        f"step | where | arithmetic | >of the peak | >GPU-hours | >hours on {plan.gpus} GPUs | >at ${plan.price:.2f}",
        lines,
    )


def assumed(plan: Plan) -> str:
    """What the arithmetic assumes, in a sentence each."""
    return "\n".join(
        [
            f"- {plan.questions:,} questions of {plan.prompt} tokens, answers of {plan.answer}; "
            f"{plan.trained_rows:,} of them train, {plan.epochs} epochs.",
            f"- Llama 3.1 70B's shape: {plan.weights / 1e9:.1f}G weights, N = {plan.inside / 1e9:.1f}G in its "
            f"{plan.layers} layers.",
            f"- H100 SXM: {plan.peak / 1e12:.0f} TFLOP/s of dense bfloat16, {plan.memory / 1e9:.0f} GB; "
            f"{plan.reading:.0%} of the peak in reading and training, {plan.writing:.0%} in writing.",
            f"- ${plan.price:.2f} a GPU-hour ({plan.priced}: [{plan.price_source.split('/')[2]}]"
            f"({plan.price_source})).",
        ]
    )


def draw(found: Json) -> None:
    """Seconds a token by size, on logarithmic axes; on no background, in colours for both themes."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    sizes = found["sizes"]
    x = np.array([size["inside"] for size in sizes]) / 1e6
    for theme, ink in (("light", "#1f2328"), ("dark", "#f0f6fc")):
        style: Any = dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink
        )
        with plt.rc_context(style | {"svg.hashsalt": "scale", "svg.fonttype": "none", "font.size": 11}):
            figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
            for name, label in STEPS.items():
                y = 1000 / np.array([size[name]["tokens_per_second"] for size in sizes])
                b = exponent(sizes, name)[0]
                axes.loglog(x, y, "o", color=COLOURS[name])
                line = y.prod() ** (1 / len(y)) * (x / x.prod() ** (1 / len(x))) ** b
                axes.loglog(x, line, color=COLOURS[name], label=f"{label}: exponent {b:.2f}")
            axes.set_xticks(x, [f"{value:.0f}M" for value in x])
            axes.minorticks_off()
            axes.set_xlabel("parameters in the layers")
            axes.set_ylabel("milliseconds a token")
            axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=1)
            with written(PICTURES / f"scale-{theme}.svg") as part:
                figure.savefig(part, format="svg", transparent=True, metadata={"Date": None})
            plt.close(figure)


def tables(found: Json, plan: Plan) -> dict[str, str]:
    """The page's tables by name."""
    return {
        "speed by size": sizes_table(found),
        "checkpointing": checkpointing_table(found),
        "short rows": short_table(found),
        "bytes": bytes_table(found, plan),
        "assumed": assumed(plan),
        "memory": memory_table(found, plan),
        "plan": plan_table(plan),
    }


def write(found: Json) -> None:
    """Put the tables into the page, and draw."""
    put(PAGE, tables(found, Plan()))
    draw(found)


if __name__ == "__main__":
    write(read_json(RESULTS / "scale.json"))
