"""The `[distillation]` table of a recipe: one model per method, and the table of methods."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
)

from okdhp_edge.backends.registry import get_profile, list_profiles
from okdhp_edge.network.config import QuantizerPlacement
from okdhp_edge.recipe.tables import StrictTable, Weight

Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(gt=0)]
Epochs = Annotated[int, Field(ge=0)]


def _check_profile_name(name: str) -> str:
    if name not in list_profiles():
        raise ValueError(f"must be one of {', '.join(list_profiles())}")
    return name


class MethodTable(StrictTable):
    """What a recipe may set of a method. Subclasses add `method: Literal[NAME]` and their keys."""

    method: str

    def check(self, branches: int, views: int, size: tuple[int, int]) -> None:
        """Raise ValueError where the rest of the recipe does not fit.

        Args:
            branches: of the network.
            views: of a person in one step.
            size: (width, height) of the crops.
        """

    def deployable(self, branches: tuple[int, ...]) -> tuple[int, ...]:
        """The branches among which the best is chosen, of those that the network offers."""
        return branches

    @property
    def unlabelled_split(self) -> str | None:
        """A split that is taught without labels."""
        return None

    def without_trained_teachers(self) -> "MethodTable":
        """For training that goes on where the files of trained teachers may be gone."""
        return self


class TeacherTable(StrictTable):
    """A trained network that teaches: one of our checkpoints, or any ONNX file of heatmaps, which a
    TOML file next to it describes if it is not ours."""

    path: str
    """`*.safetensors` of `train`, or `*.onnx`."""
    output: str | None = None
    """`branchN` or `ensemble` of a checkpoint (None: the best on its validation split); name of
    an ONNX output (None: that of its description, or the first)."""
    power: Annotated[float, Field(gt=0)] = 1.0
    """Its heatmaps are raised to this; above 1 takes away low tails, which hold much of the mass
    of a sigmoid's map."""
    window: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation, in heatmap pixels, of a Gaussian around each labelled joint by which its
    heatmap is multiplied: for teachers whose heatmaps include other people in the crop."""


class KlTable(MethodTable):
    """What methods with a KL between heatmaps share."""

    kd_weight: Weight = 1.0
    temperature: Temperature = 1.0
    """Both softmaxes divide their heatmaps by this; below 1 sharpens. `mse` needs about 0.1 to
    0.2: heatmaps in 0..1 are nearly uniform under a softmax over thousands of pixels."""
    detach: bool = True
    """Whether the teacher is a fixed target. The released codes let the KL move it."""
    ramp_epochs: Epochs = 3
    """exp(-5 (1 - t/L)^2) over L epochs (Laine and Aila, 2017); 0 starts at full weight."""
    start_epoch: Epochs = 0
    """No KL before this epoch; the ramp begins there."""


class SupervisedTable(MethodTable):
    """No teacher: the hard loss on every stack of every branch."""

    method: Literal["supervised"]


class OkdhpTable(KlTable):
    """OKDHP (Li et al., ICCV 2021, section 3.3): the branches' ensemble teaches every stack."""

    method: Literal["okdhp"]
    ensemble_weight: Weight = 1.0
    """Of the ensemble's own hard loss."""
    normalisation: Literal["joint", "released"] = "joint"
    """`joint` averages the KL over labelled joints; `released` sums over joints and divides by
    batch and pixels, which makes it H*W/J times smaller."""
    kd_joints: Literal["labelled", "all"] = "labelled"
    """Whether the teacher also supervises unlabelled joints."""
    joint_views: bool = True
    """With several views in a step, whether the teacher is the mean of all views' ensembles,
    each turned into the view that is taught; else each view's own ensemble."""
    peer_size: tuple[int, int] | None = None
    """Width and height of the crops of a peer: one more branch with a trunk of its own that sees
    the same crops in a higher resolution, learns from the labels beside the others, and joins the
    teacher."""
    peer_share: Share = 1.0
    """Of the peer in the teacher; the ensemble is the rest."""
    own_view: bool = False
    """With as many views as branches: whether a branch sees the labels of its own view only."""
    hard_weight: Weight = 1.0
    """Of the labels' loss on the stacks."""
    ema_peer: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights whose ensemble joins the teacher (Mean
    Teacher; Tarvainen and Valpola, 2017)."""
    ema_share: Share = 0.5
    """Of the moving average's ensemble in the teacher; the present ensemble is the rest."""
    teacher: TeacherTable | None = None
    """A trained network that joins the ensemble as the teacher."""
    teacher_share: Share = 0.5
    """Of the trained network's distribution in the teacher's."""

    def without_trained_teachers(self) -> MethodTable:
        """See `MethodTable.without_trained_teachers`. A peer is one too: it begins untrained."""
        return self.model_copy(update={"teacher": None, "peer_size": None})

    def check(self, branches: int, views: int, size: tuple[int, int]) -> None:
        """See `MethodTable.check`."""
        if self.own_view and views != branches:
            raise ValueError("distillation.own_view needs augmentation.views = number of branches")
        peer = self.peer_size
        if peer and peer[0] * size[1] != peer[1] * size[0]:
            raise ValueError("distillation.peer_size needs the aspect ratio of input.size")


class OkddipTable(KlTable):
    """OKDDip (Chen et al., AAAI 2020): branch 0 is the group leader, the others are its peers."""

    method: Literal["okddip"]
    attention: Annotated[int, Field(ge=1)] = 8
    """Width of the queries and keys."""

    def check(self, branches: int, views: int, size: tuple[int, int]) -> None:
        """See `MethodTable.check`."""
        del views, size
        if branches < 3:
            raise ValueError("okddip needs a leader and two peers: at least three branches")

    def deployable(self, branches: tuple[int, ...]) -> tuple[int, ...]:
        """The leader alone."""
        del branches
        return (0,)


class OfflineTable(MethodTable):
    """What methods share whose teachers are trained already."""

    def without_trained_teachers(self) -> MethodTable:
        """See `MethodTable.without_trained_teachers`."""
        return SupervisedTable(method="supervised")


class FpdTable(OfflineTable):
    """FPD (Zhang et al., CVPR 2019): alpha * distance to the teacher + (1 - alpha) * hard."""

    method: Literal["fpd"]
    teacher: TeacherTable
    alpha: Share = 0.5
    unlabelled: str | None = None
    """A split of the same data, such as `train[3000:5000]`, taught by the teacher alone."""
    feature_weight: Weight = 0.0
    """Of the mean squared distance between the trunks' features, through a learned 1x1 (DWPose);
    for teachers that are checkpoints."""

    @property
    def unlabelled_split(self) -> str | None:
        """See `MethodTable.unlabelled_split`."""
        return self.unlabelled


class OdkdTable(OfflineTable):
    """ODKD (Zhao et al., 2021), after its abstract, all that is public of it: a weaker primary
    teacher first, then a senior one that may also see the person's mask; binarised heatmaps."""

    method: Literal["odkd"]
    primary: TeacherTable
    senior: TeacherTable
    switch: Share = 0.4
    """Share of the epochs that the primary teaches."""
    alpha: Share = 0.5
    binarise: Annotated[float, Field(gt=0, lt=1)] | None = 0.5
    """A teacher's heatmap becomes one above this share of its peak and zero below; None keeps
    it as it is."""


class SelfkdTable(OfflineTable):
    """The second stage of DWPose (Yang et al., 2023): a trained model teaches a fresh head on its
    own frozen trunk; no hard loss."""

    method: Literal["selfkd"]
    teacher: TeacherTable
    """A checkpoint whose trunk is this recipe's."""


class QuantizationTable(StrictTable):
    """The `[quantization]` table: one branch also runs as it will in INT8, and learns to.

    The other branches and the ensemble stay float and teach it.
    """

    profile: Annotated[str, AfterValidator(_check_profile_name)]
    """The INT8 profile whose Q/DQ nodes are mirrored."""
    branch: Annotated[int, Field(ge=0)] = 0
    """The one that will be deployed."""
    start_epoch: Epochs = 0
    """Float until then."""
    hard_weight: Weight = 1.0
    """Of the labels' loss on its INT8 heatmaps."""
    kd_weight: Weight = 1.0
    """Of the KL from the float ensemble to its INT8 heatmaps."""
    temperature: Temperature = 1.0

    @property
    def placement(self) -> QuantizerPlacement:
        """Where the profile has its quantizers, and of what kind they are."""
        wanted = get_profile(self.profile)
        if wanted.strongly_typed:
            return QuantizerPlacement(signed=True, sums=False, fused=True)
        return QuantizerPlacement(
            per_channel=wanted.per_channel, saturation_free=wanted.saturation_free
        )


class MethodEntry(NamedTuple):
    """A method of distillation.

    Attributes:
        table: what a recipe may set.
        module: of its class, imported for training alone.
        cls: a subclass of `train.methods.base.Method`.
    """

    table: type[MethodTable]
    module: str
    cls: str


_PACKAGE = "okdhp_edge.train.methods"
METHODS: dict[str, MethodEntry] = {
    "supervised": MethodEntry(SupervisedTable, f"{_PACKAGE}.supervised", "Supervised"),
    "okdhp": MethodEntry(OkdhpTable, f"{_PACKAGE}.okdhp", "Okdhp"),
    "okddip": MethodEntry(OkddipTable, f"{_PACKAGE}.okddip", "Okddip"),
    "fpd": MethodEntry(FpdTable, f"{_PACKAGE}.fpd", "Fpd"),
    "odkd": MethodEntry(OdkdTable, f"{_PACKAGE}.odkd", "Odkd"),
    "selfkd": MethodEntry(SelfkdTable, f"{_PACKAGE}.selfkd", "Selfkd"),
}


def _validate_by_method(content: Any) -> Any:
    """A table by its `method`, checked with that method's keys."""
    if not isinstance(content, dict):
        return content
    method = content.get("method")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}")
    return METHODS[method].table.model_validate(content)


DistillationTable = Annotated[SerializeAsAny[MethodTable], BeforeValidator(_validate_by_method)]
