"""Hostile files: valid ones, broken by rules that know their structure. Reproducible by seed."""

import json
import random
import re
from pathlib import Path
from typing import Any

_NUMBERS = (
    -1, 0, 1, 2**31, 2**63, -(2**63), 10**9, 10**30, 1e308, -1e308, 1e-308, 0.5,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
_TEXTS = (
    "", " ", "../../../etc/passwd", "/etc/passwd", "..", "\x00", "a" * 10_000, "ü\u202e\U0001f600",
    "<script>alert(1)</script>", "%s%n", "-1", "nan", "1e400", "C:\\x", "\ud800", "a\nb",
)  # fmt: skip


# Of what an earlier change has nested without end, the top is enough.
_MAX_DEPTH = 40


def hostile_value(rng: random.Random) -> Any:
    """Something that does not belong where it is put."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(_NUMBERS)
    if kind < 5:
        return rng.choice(_TEXTS)
    if kind == 5:
        return rng.choice((None, True, False, [], {}))
    if kind == 6:
        deep: Any = 1
        for _ in range(rng.choice((3, 50, 900))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return [rng.choice(_NUMBERS)] * rng.choice((1, 3, 1000))


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if len(path) > _MAX_DEPTH:
        return found
    if isinstance(node, dict):
        for key, value in node.items():
            found += _places(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node[:40]):
            found += _places(value, (*path, index))
    return found


def mutated_json(content: Any, rng: random.Random) -> Any:
    """One to three nodes replaced, removed, repeated or renamed."""
    content = json.loads(json.dumps(content))
    for _ in range(rng.randint(1, 3)):
        places = _places(content)
        if not places:
            return hostile_value(rng)
        path = rng.choice(places)
        parent = content
        for step in path[:-1]:
            parent = parent[step]
        last, what = path[-1], rng.randrange(6)
        if what < 3:
            parent[last] = hostile_value(rng)
        elif what == 3:
            del parent[last]
        elif what == 4 and isinstance(parent, list):
            parent += [parent[last]] * rng.choice((1, 100))
        elif isinstance(parent, dict):
            parent[rng.choice(_TEXTS)] = parent.pop(last)
    if rng.random() < 0.03:
        return hostile_value(rng)
    return content


def _toml_text(value: Any) -> str:
    if isinstance(value, float) and value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, type(None))):
        return "{ a = 1 }"
    if isinstance(value, str):
        return json.dumps(value.encode("utf-8", "replace").decode())
    return str(value)


def mutated_toml(text: str, rng: random.Random) -> bytes:
    """One to three values replaced, lines dropped, repeated or moved."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        index = rng.randrange(len(lines))
        key, mark, _ = lines[index].partition("=")
        what = rng.randrange(5)
        if what < 3 and mark:
            lines[index] = f"{key}= {_toml_text(hostile_value(rng))}"
        elif what == 3:
            lines.insert(rng.randrange(len(lines)), lines[index])
        else:
            del lines[index]
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "replace")


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut off, flipped, zeroed, repeated, inserted into, or with numbers in text changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        size = max(len(changed), 1)
        # Headers decide more than bodies.
        limit = rng.choice((16, 256, size))
        at, length = rng.randrange(min(limit, size)), rng.choice((1, 4, 64, 1024))
        what = rng.randrange(7)
        if what == 0:
            del changed[at:]
        elif what == 1 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif what == 2:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif what == 3:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 20))
        elif what == 4:
            changed[at:at] = rng.randbytes(length)
        elif what == 5:
            changed[at : at + length] = b"\xff" * len(changed[at : at + length])
        else:
            del changed[at : at + length]
    if rng.random() < 0.1:
        changed = bytearray(
            re.sub(rb"\d+", lambda m: rng.choice((m[0], b"999999999", b"-1", b"0")), bytes(changed))
        )
    return bytes(changed)


def mutate(path: Path, rng: random.Random) -> None:
    """Break a file in place, by its kind."""
    data = path.read_bytes()
    structured = rng.random() < 0.8
    if path.suffix == ".json" and structured:
        text = json.dumps(mutated_json(json.loads(data), rng))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    elif path.suffix == ".toml" and structured:
        path.write_bytes(mutated_toml(data.decode(), rng))
    else:
        path.write_bytes(mutated_bytes(data, rng))
