"""Mutations: bundle files with random changes, most of them sealed again so that deep code is reached."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.support.bundles import (
    bundle_of,
    canonical,
    ensemble_sample,
    put_together,
    seal_text,
    sign_sample,
    take_apart,
)

_STRANGE: tuple[Any, ...] = (
    *(
        0,
        1,
        -1,
        2,
        7,
        255,
        1 << 20,
        1 << 29,
        1 << 31,
        1 << 40,
        (1 << 40) + 1,
        1 << 62,
        1 << 63,
        10**30,
        -(10**30),
    ),
    *(10**4299, 0.0, -0.0, 0.5, 1.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *(
        None,
        True,
        False,
        "",
        "a",
        "bits",
        "rice",
        "ä",
        "\ud800",
        "x\ud800\udc00y",
        "a\nb",
        "\0",
        "\x1b[2J",
        "\u2028",
    ),
    *("x" * 300, "y" * 100_000, "sha256:" + "0" * 64, "../../etc", "NaN", "masked", "labels"),
    *(
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2025-01-02T03:04:05",
        "2025-13-01T00:00:00Z",
    ),
    *("2025-01-02T03:04:05+02:00", "2025-01-02T03:04:05.678901Z", "99999-01-01T00:00:00Z"),
    *([], {}, [[]], {"a": 1}, [0] * 9, [1 << 40] * 8, [1 << 40] * 500, list(range(5000)), ["z"] * 5000),
    *({str(number): number for number in range(300)}, [None] * 20_000),
)
_TEXTS = (
    *(
        "NaN",
        "-Infinity",
        "1e999",
        "-1e999",
        "1e-99999999",
        "1E5",
        "-0",
        "00",
        "0x1",
        "1.0",
        "9" * 5000,
        "1." + "3" * 5000,
    ),
    *(
        "[" * 2000,
        "{" * 2000,
        '{"a":' * 2000,
        "null",
        "[,]",
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\u0041"',
        '"\n"',
        "\ud800",
    ),
    *(" ", "\t", '{"a":1,"a":2}', "'x'", "\0", "\ufeff", "//", "1_000", "1" * 21, "-" + "1" * 19),
)


def originals() -> list[bytes]:
    """Valid bundles of several encodings, kinds and versions of the format."""
    rng = np.random.default_rng(0)
    masks = {
        f"layer.{i}": rng.random((9, 41)) >= share for i, share in enumerate((0.0, 0.02, 0.2, 0.5, 0.97, 1.0))
    }
    return [
        bundle.to_bytes()
        for bundle in (
            bundle_of(),
            bundle_of(compress=False),
            bundle_of(masks),
            bundle_of(masks, kind="multiple-choice", labels=()),
            ensemble_sample(),
            ensemble_sample(compress=False),
            sign_sample(),
        )
    ]


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Yield so many files; the same for the same seed."""
    sources = originals()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        yield mutant(chance.choice(sources), chance)


def mutant(data: bytes, chance: random.Random) -> bytes:
    """Change a file in one to three ways."""
    fields, section = take_apart(data)
    manifest = json.loads(fields["__metadata__"]["mask_bundle"])["manifest"]
    changed = bytearray(section)
    for _ in range(chance.choice((1, 1, 2, 3))):
        what = chance.random()
        if what < 0.45:
            _change_json(manifest, chance)
        elif what < 0.7:
            _change_json(fields, chance)
        else:
            _change_bytes(changed, chance)
    text = canonical(manifest)
    if chance.random() < 0.2:
        text = _change_text(text, chance)
    fields = fields if isinstance(fields.get("__metadata__"), dict) else {**fields, "__metadata__": {}}
    if chance.random() < 0.9:
        whole = seal_text(fields, text, bytes(changed))
    else:
        whole = put_together(fields, bytes(changed))
    return _change_file(whole, chance) if chance.random() < 0.2 else whole


def _change_json(value: Any, chance: random.Random) -> None:
    """Replace, remove, repeat, rename or add one value somewhere inside."""
    holder, key = chance.choice(list(_places(value)))
    match chance.randrange(6):
        case 0 | 1 | 2:
            holder[key] = copy.deepcopy(chance.choice(_STRANGE))
        case 3:
            holder[key] = chance.choice([holder[one] for one in _keys(holder)])
        case 4:
            del holder[key]
        case _ if isinstance(holder, list):
            holder += [holder[key]] * chance.choice((1, 1, 3000))
        case _:
            name = chance.choice(
                ("a", "head.x", "mask.x\n2026-01-01 forged", "mask.\ud800", "head." + "x" * 300, "")
            )
            holder[name] = holder.pop(key) if chance.random() < 0.5 else holder[key]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in _keys(value):
        yield value, key
        if isinstance(value[key], dict | list) and len(value[key]) < 100:
            yield from _places(value[key])


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value)))


def _change_text(text: str, chance: random.Random) -> str:
    """Put a piece of text at a place where JSON has a value or a separator."""
    places = [place for place, one in enumerate(text) if one in ":,[]{}"]
    begin = chance.choice(places) + 1
    end = begin if chance.random() < 0.3 else next((place for place in places if place > begin), len(text))
    return text[:begin] + chance.choice(_TEXTS) + text[end:]


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    """Flip a bit, fill a stretch, cut, or append."""
    place = chance.randrange(len(data) + 1)
    match chance.randrange(5):
        case 0 | 1 if place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        case 2:
            stretch = len(data[place : place + 8])
            data[place : place + stretch] = bytes([chance.choice((0, 255, 127))]) * stretch
        case 3:
            del data[place:]
        case _:
            data += bytes(chance.choice((1, 8, 100_000)))


def _change_file(data: bytes, chance: random.Random) -> bytes:
    """Change bytes anywhere, or say another length of the header."""
    changed = bytearray(data)
    if chance.random() < 0.3:
        (length,) = struct.unpack_from("<Q", data)
        changed[:8] = struct.pack(
            "<Q", chance.choice((0, 1, length - 1, length + 8, 1 << 22, 1 << 62, (1 << 64) - 1))
        )
    else:
        _change_bytes(changed, chance)
    return bytes(changed)
