"""Pictures of README and docs, as SVG: `python docs/pictures/draw.py` writes them beside this file.

The bytes in `memory.svg` are those of experiments/results/table8.json (`python -m experiments table8`).
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
TABLE8 = HERE.parent.parent / "experiments" / "results" / "table8.json"
TASKS = 16
SPARSITY = 0.12
DARK, GREY, BASE, COPY, MASK = "#333333", "#8a949e", "#5b7db1", "#d98c3f", "#0b6e4f"
COLORS = {"sentiment": "#0b6e4f", "topics": "#d98c3f", "names": "#8e6bb0"}
TOKENS = {"sentiment": 5, "topics": 3, "names": 7}
# What else a viewer with a dark page sees: elements by their color on a light one, and the color there.
ON_DARK = (
    ('rect[fill="white"]', "#1e2129"),
    (f'text[fill="{DARK}"]', "#dfe3ea"),
    ('text[fill="#0b6e4f"]', "#4cc79b"),
    ('rect[fill="#0b6e4f"]', "#178563"),
    ('text[fill="#8e6bb0"]', "#b99ad6"),
)
# Boxes of the flow: title, and what happens there.
LEARNING = (
    ("labelled file", "or a finetuned model"),
    ("learn", "a score per weight"),
    ("bundle", "bits and a head"),
    ("store", "numbered versions"),
)
SERVING = (
    ("requests", "HTTP, gRPC, Python"),
    ("queue", "tasks take turns"),
    ("batch", "rows of all tasks"),
    ("encoder", "one, under many masks"),
)


def memory() -> str:
    """Draw, to scale, what a number of tasks takes: one finetuned copy each, or one base and a mask each."""
    counted = json.loads(TABLE8.read_text())["values"]["bert-base-uncased"]
    base = counted["pretrained"]["kilobytes"] / 1e3
    added = {method: found["kilobytes"] for method, found in counted["added"]["mrpc"].items()}
    copy = base + sum(added["finetuning"].values()) / 1e3
    mask = sum(added["masking"].values()) / 1e3
    scale = 700 / (TASKS * copy)
    parts = [_text(20, 30, f"{TASKS} tasks on BERT-base, memory of the weights", size=16, weight="bold")]
    parts.append(_text(20, 64, f"{TASKS} finetuned copies, {copy:.0f} MB each: {TASKS * copy:,.0f} MB"))
    width = copy * scale
    parts += [_box(20 + i * width, 74, width - 2, 34, COPY) for i in range(TASKS)]
    total = base + TASKS * mask
    words = f"maskserve: one base, {base:.0f} MB, and {TASKS} masks of {mask:.1f} MB: {total:,.0f} MB"
    parts.append(_text(20, 144, words))
    parts.append(_box(20, 154, base * scale - 1, 34, BASE))
    left, width = 20 + base * scale, mask * scale
    parts += [_box(left + i * width, 154, width * 0.65, 34, MASK) for i in range(TASKS)]
    return _svg(740, 206, parts)


def batch() -> str:
    """Draw a batch of three tasks in one masked linear layer: one weight, a mask for each task's tokens."""
    parts = [_text(20, 28, "One batch, three tasks, one masked layer", size=16, weight="bold")]
    parts += [_text(20, 62, "tokens of all requests"), _text(205, 62, "masks, 1 bit a weight")]
    parts += [_text(415, 62, "W, read once"), _text(590, 62, "outputs")]
    dice, top = random.Random(0), 76.0
    parts.append(_box(415, 76, 120, 264, BASE))
    parts.append(_text(475, 214, "y = x (W * M)ᵀ + b", fill="white", anchor="middle", size=12))
    for task, count in TOKENS.items():
        color, height = COLORS[task], count * 16
        parts += [_box(20, top + 16 * i, 90, 13, color) for i in range(count)]
        parts.append(_text(118, top + height / 2 + 4, task, fill=color))
        parts += _bits(225, top + height / 2 - 24, color, dice)
        parts += [_arrow(185, 218, top + height / 2), _arrow(345, 408, top + height / 2)]
        parts.append(_arrow(542, 583, top + height / 2))
        parts += [_box(590, top + 16 * i, 90, 13, color) for i in range(count)]
        top += height + 12
    return _svg(700, 356, parts)


def flow() -> str:
    """Draw how a task is learned and published, and how requests of all tasks are answered."""
    parts = [_text(20, 28, "From labelled rows to answers", size=16, weight="bold")]
    parts += [*_chain(76, "Once per task", LEARNING, MASK)]
    parts += [*_chain(196, "Each request", SERVING, BASE)]
    parts.append(_box(20, 300, 700, 40, BASE))
    parts.append(_text(370, 325, "answers, each from its own task", fill="white", anchor="middle"))
    parts += [_down(637, 136, 190, "masks, as they are published"), _down(637, 256, 294, "")]
    return _svg(740, 360, parts)


def _chain(top: float, name: str, boxes: Sequence[tuple[str, str]], color: str) -> Iterable[str]:
    """Draw a row of boxes, each leading to the next."""
    yield _text(20, top - 12, name)
    for place, (title, words) in enumerate(boxes):
        left = 20 + place * 178
        yield _box(left, top, 166, 60, color)
        yield _text(left + 83, top + 26, title, fill="white", anchor="middle", weight="bold")
        yield _text(left + 83, top + 45, words, fill="white", anchor="middle", size=12)
        if place:
            yield _arrow(left - 12, left, top + 30)


def _bits(left: float, top: float, color: str, dice: random.Random) -> Iterable[str]:
    """Draw a small matrix of bits, of which some are 0 (white)."""
    for row in range(6):
        for column in range(14):
            yield _box(left + 8 * column, top + 8 * row, 7, 7, "white" if dice.random() < SPARSITY else color)


def _box(left: float, top: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}"/>'


def _arrow(left: float, right: float, y: float) -> str:
    line = f'<path d="M{left} {y}H{right - 6}" stroke="{GREY}" stroke-width="1.5"/>'
    return line + f'<path d="M{right} {y}l-7 -4v8z" fill="{GREY}"/>'


def _down(x: float, top: float, end: float, words: str) -> str:
    line = f'<path d="M{x} {top}V{end - 6}" stroke="{GREY}" stroke-width="1.5"/>'
    head = f'<path d="M{x} {end}l-4 -7h8z" fill="{GREY}"/>'
    return line + head + (_text(x - 12, (top + end) / 2 + 4, words, anchor="end") if words else "")


def _text(
    left: float,
    base_line: float,
    words: str,
    *,
    size: int = 14,
    fill: str = DARK,
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{left}" y="{base_line}" {style}>{words}</text>'


def _svg(width: int, height: int, parts: Iterable[str]) -> str:
    dark = "".join(f"{elements}{{fill:{color}}}" for elements, color in ON_DARK)
    style = f"<style>@media (prefers-color-scheme:dark){{{dark}}}</style>"
    body = "\n".join([style, _box(0, 0, width, height, "white"), *parts])
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'font-family="Helvetica, Arial, sans-serif">\n{body}\n</svg>\n'
    )


PICTURES = {"memory.svg": memory, "batch.svg": batch, "flow.svg": flow}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw(), encoding="utf-8")
