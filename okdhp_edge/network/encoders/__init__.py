"""Image encoders, each giving its last feature map; one file per family."""

from okdhp_edge.network.encoders.base import Encoder, channels_of, up_to_stride
from okdhp_edge.network.encoders.build import build_encoder

__all__ = ["Encoder", "build_encoder", "channels_of", "up_to_stride"]
