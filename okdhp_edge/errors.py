"""Errors meant for people: one line with the cause and the remedy, and an exit code."""

from typing import Self

_MAX_CAUSE_CHARS, _MAX_REMEDY_CHARS = 190, 105
_ELLIPSIS = " ... "


def to_one_line(text: str, longest: int) -> str:
    """Printable, on one line, and no longer than this: libraries' own messages, names and values
    out of strangers' files may hold anything."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    if len(line) <= longest:
        return line
    tail = longest // 3
    return line[: longest - tail - len(_ELLIPSIS)] + _ELLIPSIS + line[-tail:]


def describe_first_fault(error: Exception) -> str:
    """What is wrong, in a few words: of a validation the first key that does not fit."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])


class OkdhpError(Exception):
    """An expected failure: the CLI prints `cause; remedy` and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = to_one_line(cause, _MAX_CAUSE_CHARS)
        self.remedy = to_one_line(remedy, _MAX_REMEDY_CHARS)
        super().__init__(f"{self.cause}; {self.remedy}")

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        # Worker processes send theirs as pickles, which would give __init__ the message alone.
        return type(self), (self.cause, self.remedy)


class DataError(OkdhpError):
    """Annotations or images that cannot be used as they are."""


class RecipeError(OkdhpError):
    """A training recipe that is wrong."""


class ModelError(OkdhpError):
    """A checkpoint, ONNX file, card or INT8 artefact that cannot be trusted or found."""


class BackendError(OkdhpError):
    """A runtime or device that is missing or does not run what was asked for."""


class SourceError(OkdhpError):
    """A camera, video or picture that cannot be read."""


class OutputError(OkdhpError):
    """A place that cannot be written to."""


class GateError(OkdhpError):
    """A measured quality is below what the stage guarantees (parity, accuracy drop)."""

    exit_code = 3
