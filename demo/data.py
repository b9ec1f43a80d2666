"""Small labelled data for the demonstration: messages to an online shop's support desk.

Everything is generated here from word lists and templates with a fixed seed; it is a toy that shows
the four kinds of task, and says nothing about quality on real data. Dev rows use phrasings and names
that train rows don't have.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# Per intent: phrasings of a customer, and the reply of an agent. The last phrasings are kept for dev.
INTENTS: dict[str, dict[str, list[str]]] = {
    "billing": {
        "ask": [
            "I was charged twice for {item}",
            "my invoice for {item} shows the wrong amount",
            "why did you take {price} from my card for {item}",
            "please refund the {price} I paid for {item}",
            "the discount code was not applied to {item}",
            "my bank statement lists {item} two times",
            "I want my money back for {item}",
            "there is an unknown payment of {price} on my bill",
        ],
        "reply": [
            "We have refunded the amount to your card.",
            "The wrong charge is cancelled and your invoice corrected.",
            "Your payment is being returned, the money arrives in three days.",
        ],
    },
    "shipping": {
        "ask": [
            "where is {item}, it should have arrived on {day}",
            "the parcel with {item} is lost",
            "can you deliver {item} to {city} instead",
            "the tracking number for {item} does not move",
            "the courier left {item} at the wrong house in {city}",
            "how long does delivery of {item} to {city} take",
            "my package has been stuck in {city} since {day}",
            "nobody brought {item} although I waited all {day}",
        ],
        "reply": [
            "Your parcel is on the truck and reaches you tomorrow.",
            "The courier will deliver the package to the new address.",
            "We traced your shipment and it leaves the depot tonight.",
        ],
    },
    "technical": {
        "ask": [
            "{item} does not turn on any more",
            "the screen of {item} stays black",
            "{item} keeps crashing after the update",
            "I can't connect {item} to wifi",
            "the battery of {item} is empty after an hour",
            "there is a strange noise coming from {item}",
            "{item} freezes whenever I press start",
            "how do I reset {item}, it shows an error",
        ],
        "reply": [
            "Hold the power button for ten seconds to restart the device.",
            "Please install the latest firmware and connect it again.",
            "A technician will repair or replace the faulty device.",
        ],
    },
    "account": {
        "ask": [
            "I forgot my password",
            "please change the email address of my profile to the {city} office",
            "I can't log in since {day}",
            "delete my account and all my data",
            "somebody else is using my user name",
            "how do I change my login name",
            "the sign-in page does not accept my code",
            "my profile was locked on {day}",
        ],
        "reply": [
            "We sent you a link to choose a new password.",
            "Your profile is updated, please sign in again.",
            "Your user account is unlocked now.",
        ],
    },
}
_HELD_OUT_PHRASINGS = 2  # of each intent; only dev rows use them
_ITEMS = {
    "train": ["the blue kettle", "my headphones", "the garden lamp", "a pair of boots", "the coffee machine"],
    "dev": ["the red toaster", "my camera", "the desk fan", "a winter coat"],
}
_CITIES = {
    "train": ["Paris", "Oslo", "New York", "Berlin", "Hong Kong"],
    "dev": ["Rome", "San Diego", "Lima"],
}
_PEOPLE = {
    "train": ["Anna Smith", "Omar", "Li Wei", "Maria Lopez", "John"],
    "dev": ["Peter Jones", "Sofia", "Ivan Petrov"],
}
_DAYS = ["Monday", "Tuesday", "Thursday", "Friday", "Sunday"]
_PRICES = ["20 dollars", "49 euros", "135 dollars", "8 pounds"]
_OPENINGS = ["", "", "hello, ", "hi, ", "sorry but ", "good morning, "]
_CLOSINGS = ["", "", ".", "!", ", please help", ", thanks"]

_ENTITY_TEMPLATES = {
    "train": [
        "{person} from {city} ordered {item} on {day}",
        "please send {item} to {person} in {city}",
        "{person} moved to {city} last week",
        "on {day} we shipped {item} from {city}",
        "is {person} still waiting for {item} ?",
        "call {person} about {item} before {day}",
    ],
    "dev": [
        "{person} returned {item} to our shop in {city}",
        "deliver {item} to {city} on {day} and ask for {person}",
        "did {person} pay for {item} in {city} ?",
    ],
}


def _message(rng: random.Random, split: str, intent: str) -> str:
    phrasings = INTENTS[intent]["ask"]
    pool = phrasings[:-_HELD_OUT_PHRASINGS] if split == "train" else phrasings[-_HELD_OUT_PHRASINGS:]
    filled = rng.choice(pool).format(
        item=rng.choice(_ITEMS[split]),
        city=rng.choice(_CITIES[split]),
        day=rng.choice(_DAYS),
        price=rng.choice(_PRICES),
    )
    return f"{rng.choice(_OPENINGS)}{filled}{rng.choice(_CLOSINGS)}"


def _routing(rng: random.Random, split: str) -> Row:
    intent = rng.choice(list(INTENTS))
    return {"text": _message(rng, split, intent), "label": intent}


def _same_request(rng: random.Random, split: str) -> Row:
    intent = rng.choice(list(INTENTS))
    same = rng.random() < 0.5  # noqa: PLR2004
    other = intent if same else rng.choice([name for name in INTENTS if name != intent])
    texts = _message(rng, split, intent), _message(rng, split, other)
    return {"text": texts[0], "text_pair": texts[1], "label": "same" if same else "different"}


def _entities(rng: random.Random, split: str) -> Row:
    values = {
        "person": rng.choice(_PEOPLE[split]),
        "city": rng.choice(_CITIES[split]),
        "item": rng.choice(_ITEMS[split]),
        "day": rng.choice(_DAYS),
    }
    tokens: list[str] = []
    tags: list[str] = []
    for part in rng.choice(_ENTITY_TEMPLATES[split]).split():
        name = part[1:-1] if part.startswith("{") else None
        words = values[name].split() if name else [part]
        tokens += words
        tags += [f"{'I' if i else 'B'}-{name.upper()}" for i in range(len(words))] if name else ["O"]
    return {"tokens": tokens, "tags": tags}


def _best_reply(rng: random.Random, split: str) -> Row:
    intent = rng.choice(list(INTENTS))
    order = rng.sample(list(INTENTS), len(INTENTS))
    return {
        "context": _message(rng, split, intent),
        "choices": [rng.choice(INTENTS[name]["reply"]) for name in order],
        "label": order.index(intent),
    }


# A multiple-choice row is four sequences of tokens, so that task gets fewer rows.
FEWER = {"routing": 1, "same-request": 1, "entities": 1, "best-reply": 2}

GENERATORS: dict[str, Callable[[random.Random, str], Row]] = {
    "routing": _routing,
    "same-request": _same_request,
    "entities": _entities,
    "best-reply": _best_reply,
}


def write_data(folder: Path, *, train_rows: int, dev_rows: int, seed: int = 7) -> dict[str, dict[str, Path]]:
    """Write train and dev files of every task as JSON lines.

    Args:
        folder: Where to write `<task>/train.jsonl` and `<task>/dev.jsonl`.
        train_rows: Rows of each train file (half as many for multiple choice).
        dev_rows: Rows of each dev file (likewise).
        seed: Seed of the generator.

    Returns:
        Paths by task and split.
    """
    paths: dict[str, dict[str, Path]] = {}
    for task, generate in GENERATORS.items():
        paths[task] = {}
        for split, rows in (("train", train_rows), ("dev", dev_rows)):
            rng = random.Random(f"{seed} {task} {split}")
            path = folder / task / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(generate(rng, split)) for _ in range(rows // FEWER[task])]
            path.write_text("\n".join(lines) + "\n")
            paths[task][split] = path
    return paths
