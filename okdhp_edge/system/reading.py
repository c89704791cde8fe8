"""Safe reading of untrusted text files.

Only regular files are read, up to a size; text is UTF-8, or what its byte order mark says; nesting
and aliases are limited. All refusals are `ValueError` or `OSError` with one line of cause, which
the callers put into their own words.
"""

import codecs
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_ANNOTATION_BYTES = 1 << 29
MAX_CONFIG_BYTES = 1 << 20
# Python's own limit lies between a few hundred and a thousand, by how deep the call already is.
_MAX_DEPTH = 200
_BOM_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def is_count(text: str) -> bool:
    """Whether `int` takes this and it can count something: `str.isdigit` is true of a superscript
    two, and of five thousand nines."""
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def read_file(path: Path, max_bytes: int = MAX_ANNOTATION_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: missing, a folder, or not permitted.
        ValueError: a device, a pipe, or more than `max_bytes`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("a device or pipe, not a file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes >> 20} MiB")
    return content


def read_text(path: Path, max_bytes: int = MAX_ANNOTATION_BYTES) -> str:
    """A text file, in UTF-8 or with a byte order mark, as Windows tools write it.

    Raises:
        OSError, ValueError: as `read_file`, or bytes that are no text.
    """
    content = read_file(path, max_bytes)
    for mark, encoding in _BOM_ENCODINGS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    return content.decode("utf-8")


def read_json(path: Path, max_bytes: int = MAX_ANNOTATION_BYTES) -> Any:
    """A JSON file.

    Raises:
        OSError, ValueError: as `read_text`, or no JSON, or nested too deeply.
    """
    return parse_json(read_text(path, max_bytes))


def parse_json(text: str) -> Any:
    """JSON of limited depth.

    Raises:
        ValueError: no JSON, or nested too deeply.
    """
    return _parse_limited(json.loads, text)


def _parse_limited(parse: Callable[[str], Any], text: str) -> Any:
    try:
        content = parse(text)
    except RecursionError:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep") from None
    _check_depth(content)
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of at most a MiB.

    Raises:
        OSError, ValueError: as `read_text`, or no TOML, or nested too deeply.
    """
    content: dict[str, Any] = _parse_limited(tomllib.loads, read_text(path, MAX_CONFIG_BYTES))
    return content


def read_yaml(path: Path) -> Any:
    """A YAML file of at most a MiB, without aliases: a few of them stand for gigabytes.

    Raises:
        OSError, ValueError: as `read_text`, or no YAML, or with aliases, or nested too deeply.
        ModuleNotFoundError: PyYAML is not installed.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not supported")
            return super().compose_node(parent, index)

    text = read_text(path, MAX_CONFIG_BYTES)
    try:
        return _parse_limited(lambda t: yaml.load(t, Loader), text)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _check_depth(content: Any) -> None:
    """Level by level, so that the check itself cannot run out of stack."""
    level = [content]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {_MAX_DEPTH} deep")
