"""The real-time loop: frames in, poses and a report out; `okdhp_edge.stream` is it for programs.

`sources/` -> `reader` -> `pipeline`, which asks `inference/` -> `loop` -> `sinks/` and `web/`,
counted in `run_statistics`, written up in `report`.
"""
