"""The real-time loop: frames in, poses and an honest report out.

    from okdhp_edge.run import stream

    for frame, poses in stream("webcam", people="many", detector="yolox_nano.onnx"):
        ...

`sources/` -> `reader` -> `pipeline` (`single_person` or `multi_person` with `detect`, `estimate`,
`smooth`) -> `loop` -> `sinks/` and `web/`, counted in `run_statistics` and told in `report`.
"""

from okdhp_edge.run.stream import Result, stream

__all__ = ["Result", "stream"]
