"""The accuracy gate: reject an INT8 file whose metric drops by more than --max-drop."""

from okdhp_edge.errors import GateError


def check_drop(
    profile: str, metric: str, before: float, after: float, max_drop: float, tried: str = ""
) -> None:
    """Raise GateError when INT8 is more than `max_drop` points below float.

    Args:
        before, after: the metric in points of 100, on the same samples.
        tried: what led there, for the message.
    """
    drop = before - after
    if not drop <= max_drop:
        raise GateError(
            f"int8 for {profile} has {metric} {after:.2f}, {drop:.2f} points below float "
            f"{before:.2f} (limit {max_drop:g}){tried and '; ' + tried}",
            "use quantization-aware training (--qat 3), better calibration data (--calibration), "
            "or raise --max-drop",
        )
