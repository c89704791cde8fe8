"""Image encoders, each giving its last feature map; one file per family."""

from okdhp_edge.network.encoders.base import Encoder, count_output_channels, select_up_to_stride
from okdhp_edge.network.encoders.build import build_encoder

__all__ = ["Encoder", "build_encoder", "count_output_channels", "select_up_to_stride"]
