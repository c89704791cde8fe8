"""Errors meant for people: one line with the cause and the remedy, and an exit code."""

from typing import Self


class OkdhpError(Exception):
    """An expected failure: the CLI prints `cause; remedy` and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}; {remedy}")
        self.cause = cause
        self.remedy = remedy

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
