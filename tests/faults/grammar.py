"""Files that are well-formed and extreme: each format's own structure, with values nobody expects.

Where `mutations.py` breaks bytes, this knows what it breaks: a valid document is taken apart and at
one to three of its places a value is put that is typed wrongly, deep, huge, empty, not a number,
aliased or named strangely; or a key is lost, repeated or renamed. Hypothesis draws the places and
values, so that a failure shrinks to its cause.
"""

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

Document = Any

_WORDS = ("", " ", "nan", "-", "../../x", "/dev/zero", "/dev/stdin", "~nobody/x", "a:b,c", "im²",
          "Ünï", "\u202e", "\x00", "\ud800", "<!--<script>", "null", "1e999", "%s", "[bold]",
          "'; --", "CON", ".", "..")  # fmt: skip
words = st.one_of(
    st.sampled_from(_WORDS), st.text(max_size=8), st.integers(1, 5).map(lambda n: "k" * 10**n)
)
numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 255, 2**31, 2**63, 2**64, -(2**63), 10**18, 10**400, 0.5,
                     -0.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")]),
    st.integers(), st.floats(),
)  # fmt: skip


def _nested(depth: int, kind: str) -> Document:
    value: Document = 0
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value}
    return value


deep = st.builds(_nested, st.sampled_from([2, 30, 150, 900]), st.sampled_from(["list", "dict"]))
long = st.builds(
    lambda n, v: [v] * n, st.sampled_from([0, 1, 2, 3, 4, 50, 20_000]),
    st.one_of(numbers, words, st.none(), st.just([]), st.just({})),
)  # fmt: skip
values = st.one_of(
    numbers, words, st.none(), st.booleans(), deep, long, st.just({}), st.just([]),
    st.lists(st.one_of(numbers, words, st.none()), max_size=6),
    st.dictionaries(words, numbers, max_size=3),
)  # fmt: skip


def _places(document: Document, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = [above] if above else []
    children = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document[:4])
        if isinstance(document, list)
        else ()
    )
    for key, child in children:
        inner += _places(child, (*above, key))
    return inner


def _holder(document: Document, place: tuple[Any, ...]) -> Document:
    for key in place[:-1]:
        document = document[key]
    return document


@st.composite
def documents(draw: st.DrawFn, valid: Document) -> Document:
    """A copy of a valid document, changed in one to three places."""
    document = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            break
        place = draw(st.sampled_from(places))
        holder, key = _holder(document, place), place[-1]
        action = draw(st.sampled_from(["value"] * 6 + ["lose", "repeat", "rename", "wrap"]))
        if action == "value":
            holder[key] = draw(values)
        elif action == "lose":
            del holder[key]
        elif action == "repeat" and isinstance(holder, list):
            holder.extend([holder[key]] * draw(st.sampled_from([1, 5, 500])))
        elif action == "rename" and isinstance(holder, dict):
            holder[draw(words)] = holder.pop(key)
        else:
            holder[key] = [holder[key]]
    return document


def as_json(document: Document) -> bytes:
    """JSON as Python writes it, NaN and infinities too."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def as_toml(document: Document) -> bytes:
    """TOML of tables of simple values; what TOML cannot say is written as text all the same."""
    try:
        return _as_toml(document)
    except RecursionError:
        return b"deep = " + b"[" * 900 + b"]" * 900


def _as_toml(document: Document) -> bytes:
    lines: list[str] = []
    tables = {k: v for k, v in document.items() if isinstance(v, dict)}
    lines += [f"{_key(k)} = {_toml(v)}" for k, v in document.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{_key(name)}]", *(f"{_key(k)} = {_toml(v)}" for k, v in table.items())]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _key(text: str) -> str:
    return text if text.isidentifier() and text.isascii() else json.dumps(text)


def _toml(value: Document) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def as_yaml(document: Document) -> bytes:
    """JSON is YAML."""
    return as_json(document)


aliased = st.builds(
    lambda width, depth: "".join(
        [f"a0: &a0 [{', '.join('x' * width)}]\n",
         *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]\n" for i in range(1, depth))]
    ).encode() + b"path: .\ntrain: images\nkpt_shape: [3, 3]\nnames: *a0\n",
    st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip
rows = st.lists(
    st.lists(st.one_of(numbers.map(str), words), max_size=16).map(" ".join), max_size=5
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))
sides = st.sampled_from([0, 1, 3, 64, 8192, 16000, 65535])


def _gif(width: int, height: int) -> bytes:
    frame = struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"," + frame + b"\2\2L\1\0;"


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (struct.pack(">I", len(data)) + kind + data
                + struct.pack(">I", zlib.crc32(kind + data)))  # fmt: skip

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
            + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b""))  # fmt: skip


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + head + bytes(100)


def _pnm(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255\n".encode() + bytes(100)


images = st.builds(
    lambda make, width, height: make(width, height),
    st.sampled_from([_gif, _png, _bmp, _pnm]), sides, sides,
)  # fmt: skip
file_names = st.sampled_from(
    [b"bad\xff.%s", "ü.%s".encode(), b"a:b,c.%s", b" .%s", b"-x.%s", b"a\nb.%s", b"[red].%s",
     b"%%s.%s", b"%s"]
)  # fmt: skip


class Grammar(NamedTuple):
    """A format and the command that reads it.

    Attributes:
        file: what is replaced in a folder of valid files.
        content: strategy of the bytes, given those of the valid file.
        command: words after `okdhp-edge`, run in the folder.
    """

    name: str
    file: str
    content: Callable[[bytes], st.SearchStrategy[bytes]]
    command: tuple[str, ...]


def _json_like(valid: bytes) -> st.SearchStrategy[bytes]:
    return documents(json.loads(valid)).map(as_json)


def _toml_like(valid: bytes) -> st.SearchStrategy[bytes]:
    import tomllib

    return documents(tomllib.loads(valid.decode())).map(as_toml)


def _yaml_like(valid: bytes) -> st.SearchStrategy[bytes]:
    import yaml

    return st.one_of(documents(yaml.safe_load(valid)).map(as_yaml), aliased)


def _any(strategy: st.SearchStrategy[bytes]) -> Callable[[bytes], st.SearchStrategy[bytes]]:
    return lambda _: strategy


_RUN = ("--model", "model", "--backend", "onnxruntime", "--precision", "fp32", "--threads", "1",
        "--max-frames", "3", "--no-window", "--json", "p.jsonl")  # fmt: skip
GRAMMARS = (
    Grammar("recipe", "recipe.toml", _toml_like,
            ("data", "show", "--recipe", "recipe.toml", "--count", "1")),
    Grammar("coco", "fish.json", _json_like, ("data", "check", "--data", "coco:fish.json")),
    Grammar("coco crops", "fish.json", _json_like,
            ("data", "crops", "--data", "coco:fish.json", "--out", "crops")),
    Grammar("mpii", "mpii.json", _json_like, ("data", "check", "--data", "mpii:mpii.json")),
    Grammar("yolo description", "data.yaml", _yaml_like,
            ("data", "check", "--data", "yolo:data.yaml")),
    Grammar("yolo labels", "labels/a.txt", _any(rows),
            ("data", "check", "--data", "yolo:data.yaml")),
    Grammar("lspet list", "splits/train.txt", _any(rows),
            ("data", "check", "--data", "lspet:.", "--split", "train")),
    Grammar("coco results", "results.json", _json_like,
            ("eval", "--data", "coco:annotations.json", "--split", "all", "--results",
             "results.json")),
    Grammar("report", "report.json", _json_like, ("report", "report.json", "--html", "r.html")),
    Grammar("card", "model/card.json", _json_like, ("run", "--source", "a.png", *_RUN)),
    Grammar("teacher description", "teacher.toml", _toml_like,
            ("data", "label", "images", "--teacher", "teacher.onnx", "--boxes", "none",
             "--no-people", "--negatives", "1")),
    Grammar("detector description", "detector.toml", _toml_like,
            ("run", "--source", "a.png", "--people", "many", "--detector", "detector.onnx", *_RUN)),
    Grammar("image", "a.png", _any(images), ("run", "--source", "a.png", *_RUN)),
    Grammar("video", "a.mp4", _any(images), ("run", "--source", "a.mp4", *_RUN)),
)  # fmt: skip
