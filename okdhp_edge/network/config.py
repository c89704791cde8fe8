"""Network configuration: the `[network]` table of a recipe."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

STRIDE = 4
"""Heatmaps are a quarter of the input, unless a recipe says otherwise."""

# ImageNet's channel statistics times 255, in BGR order.
_IMAGENET_MEAN = (103.53, 116.28, 123.675)
_IMAGENET_STD = (57.375, 57.12, 58.395)
# EfficientNet-Lite was trained on (x - 127) / 128.
_LITE_MEAN, _LITE_STD = (127.0,) * 3, (128.0,) * 3

Aggregation = Literal["released", "paper", "depthwise", "mean"]


class EncoderEntry(NamedTuple):
    """An encoder.

    Attributes:
        module: of its class, imported when a network is built.
        cls: a subclass of `network.encoders.base.Encoder`.
        mean: of the input that its published weights expect, BGR, in units of 0..255.
        std: likewise.
        packaged_weights: whether `imagenet` finds its weights in an installed package.
    """

    module: str
    cls: str
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    packaged_weights: bool = False


_PACKAGE = "okdhp_edge.network.encoders"
ENCODERS: dict[str, EncoderEntry] = {
    "efficientnet_lite0": EncoderEntry(
        f"{_PACKAGE}.efficientnet_lite0", "EfficientNetLite0", _LITE_MEAN, _LITE_STD, True
    ),
    "mobilenet_v2": EncoderEntry(f"{_PACKAGE}.mobilenet_v2", "MobileNetV2"),
    "shufflenet_v2": EncoderEntry(f"{_PACKAGE}.shufflenet_v2", "ShuffleNetV2"),
    "resnet18": EncoderEntry(f"{_PACKAGE}.resnet18", "ResNet18"),
    "squeezenet1_1": EncoderEntry(f"{_PACKAGE}.squeezenet", "SqueezeNet11"),
}


def _check_encoder_name(name: str) -> str:
    if name not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}")
    return name


EncoderName = Annotated[str, AfterValidator(_check_encoder_name)]
Branches = Annotated[
    tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=1, max_length=32)
]
_Channels = Annotated[int, Field(ge=1, le=4096)]
_MAX_NUM_WEIGHTS = 1e9
# Of one stack, in squares of its width (Newell et al.: 3.2 million at 256).
_STACK_WEIGHTS_PER_SQUARED_WIDTH = 49
# Of the largest encoder here.
_MAX_ENCODER_WEIGHTS = 12e6


class _Network(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    branches: Branches = (1, 1, 1)
    """Depth of each branch; equal depths are balanced. Branch 0 has the architecture to deploy."""
    aggregation: Aggregation = "depthwise"
    mask: bool = False
    """Whether the person's mask is a fourth input channel: for teachers only."""
    branch_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the trunk's channels that each branch misses, each its own, while training."""

    @property
    def deployable(self) -> tuple[int, ...]:
        """Branches with the target's depth: "best" is chosen among these alone."""
        return tuple(i for i, depth in enumerate(self.branches) if depth == self.branches[0])


class HourglassConfig(_Network):
    """Stacked hourglass (Newell et al., ECCV 2016) with OKDHP branches; depths count stacks."""

    kind: Literal["hourglass"]
    width: Annotated[int, Field(ge=8, le=4096, multiple_of=4)] = 256
    shared_stacks: Annotated[int, Field(ge=0, le=8)] = 0

    @model_validator(mode="after")
    def _check_network_cost(self) -> "HourglassConfig":
        _check_weights(
            _STACK_WEIGHTS_PER_SQUARED_WIDTH
            * self.width**2
            * (self.shared_stacks + sum(self.branches))
        )
        return self


class MobilePoseConfig(_Network):
    """An image encoder, shared by all branches wholly or in part, and one decoder per branch.

    Depths count the 3x3 convolutions after each upsampling (`upsample`) or the DUC blocks' extra
    ones (`duc`).
    """

    kind: Literal["mobilepose"]
    encoder: EncoderName = "efficientnet_lite0"
    encoder_weights: str | None = None
    """"imagenet" (efficientnet_lite0), the path of a torchvision state dict, or none."""
    share_to: Literal[2, 4, 8, 16] | None = None
    """The stride up to which the encoder is shared: every branch has its own coarser layers, all
    from the same pre-trained weights. None shares the whole encoder."""
    stride: Literal[4, 8] = 4
    """Of the heatmaps: pixels of the input to a cell."""
    neck: Literal[4, 8, 16] | None = None
    """The stride to which the encoder's own finer maps are merged into its coarsest, top down,
    before the branches part; with the `upsample` decoder. None: branches see the coarsest alone."""
    decoder: Literal["upsample", "duc"] = "upsample"
    decoder_channels: Annotated[tuple[_Channels, ...], Field(max_length=8)] = (128, 96, 64)

    @model_validator(mode="after")
    def _check_neck(self) -> "MobilePoseConfig":
        if self.neck and self.neck < self.stride:
            raise ValueError("network.neck is finer than network.stride")
        if self.neck and (self.share_to is not None or self.decoder != "upsample"):
            raise ValueError("network.neck needs decoder = 'upsample' and no share_to")
        return self

    @model_validator(mode="after")
    def _check_network_cost(self) -> "MobilePoseConfig":
        channels = (*self.decoder_channels, 1)
        block = sum(9 * a * max(a, b) for a, b in pairwise(channels))
        encoders = len(self.branches) if self.share_to else 1
        _check_weights(_MAX_ENCODER_WEIGHTS * encoders + block * sum(self.branches))
        return self


class OnnxConfig(_Network):
    """A third-party pose network, read from its ONNX file; depths count 3x3 convolutions after
    its features, the last of them the head. How the file is fed is described next to it."""

    kind: Literal["onnx"]
    file: str | None = None
    """ONNX file with a TOML file next to it."""
    features: str | None = None
    """Tensor of the file after which branches begin anew, as a detector's do; None: what the last
    convolution reads, and branches begin with its weights."""
    boxes: bool = False
    """Whether the file is a person detector that is kept with its own output: rows of left, top,
    right and bottom in input pixels, and a score."""
    graph: str = ""
    """The file's graph without its weights; set from `file`, and kept in checkpoints."""
    stride: Annotated[int, Field(ge=1, le=32)] = STRIDE
    """Of the heatmaps; set from `file`."""
    mean: tuple[float, ...] = _IMAGENET_MEAN
    """Of the input, BGR, in units of 0..255; set from `file`."""
    std: tuple[float, ...] = _IMAGENET_STD
    """Likewise."""

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, content: Any) -> Any:
        file = content.get("file") if isinstance(content, dict) else None
        if not isinstance(file, str) or not file or content.get("graph"):
            return content
        if not (path := Path(file).expanduser()).is_file():
            return content
        from okdhp_edge.network.onnx_network import describe_onnx_network

        boxes = bool(content.get("boxes"))
        described = describe_onnx_network(path, content.get("features"), boxes=boxes)
        return content | {"file": str(path)} | described

    @model_validator(mode="after")
    def _check_input(self) -> "OnnxConfig":
        if self.mask:
            raise ValueError("network.kind = 'onnx' takes no mask")
        if self.boxes and self.features:
            raise ValueError("network.boxes and network.features are mutually exclusive")
        return self


def _check_weights(count: float) -> None:
    """Refuse a network before any of it is built."""
    if count > _MAX_NUM_WEIGHTS:
        raise ValueError(
            f"the network has {count / 1e9:.1f} billion weights, the limit is "
            f"{_MAX_NUM_WEIGHTS / 1e9:.0f}"
        )


AnyNetworkConfig = HourglassConfig | MobilePoseConfig | OnnxConfig
NetworkConfig = Annotated[AnyNetworkConfig, Field(discriminator="kind")]


def make_hourglass_config(stacks: int, width: int, branches: int = 1) -> HourglassConfig:
    """The named hourglasses: 2, 4 or 8 stacks of width 128 or 256.

    With several branches half of the stacks is shared (OKDHP, ICCV 2021, section 3).
    """
    shared = stacks // 2 if branches > 1 else 0
    return HourglassConfig(
        kind="hourglass",
        width=width,
        shared_stacks=shared,
        branches=(stacks - shared,) * branches,
        aggregation="released" if branches > 1 else "mean",
    )


def drop_encoder_weights(config: AnyNetworkConfig) -> AnyNetworkConfig:
    """The same network for a training that starts from weights of its own: no others are read."""
    if isinstance(config, MobilePoseConfig):
        return config.model_copy(update={"encoder_weights": None})
    return config


def get_normalization(config: AnyNetworkConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the input, BGR, in units of 0..255."""
    if isinstance(config, MobilePoseConfig):
        encoder = ENCODERS[config.encoder]
        return encoder.mean, encoder.std
    if isinstance(config, OnnxConfig):
        return config.mean, config.std
    return _IMAGENET_MEAN, _IMAGENET_STD


class QuantizerPlacement(NamedTuple):
    """What a target wants.

    Attributes:
        signed: activations in int8 around zero, else uint8 with a zero-point.
        per_channel: one scale for each output channel of a weight, else one for all.
        sums: whether the outputs of additions are quantized too.
        fused: whether an addition takes one convolution's output as it is, which alone it reads.
        saturation_free: whether weights have steps at which no pair of products leaves 16 bits.
    """

    signed: bool = False
    per_channel: bool = True
    sums: bool = True
    fused: bool = False
    saturation_free: bool = False
