"""data/train/report.json: the trained network, and its figures on val."""

from steps.reports.base import JsonFile, Report


class SiteDecision(JsonFile):
    """The block that replaced one convolution, or the reason why the convolution was skipped."""

    site: str
    block: str | None = None
    skipped: str | None = None


class WeightsCoverage(JsonFile):
    """Which tensors of the network a weights file filled (`coverage`), and the used share of the file (`used`)."""

    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    other_shape: tuple[str, ...] = ()  # or integers where the network has floats
    interpolated: tuple[str, ...] = ()  # position embeddings, loaded after interpolation to another shape
    coverage: float
    used: float = 1.0
    head_replaced: bool = False  # the last layer keeps its random weights


class TrainMetrics(JsonFile):
    """metrics.json: the figures of the best epoch on val that `dvc metrics show` lists."""

    best_epoch: int | None
    val_top1: float | None
    val_macro_recall: float | None
    val_worst_recall: float | None


class TrainReport(Report):
    """Figures of the best epoch, chosen on val."""

    arch: str = ""
    epochs: int = 0
    best_epoch: int | None = None
    val_top1: float | None = None
    val_macro_recall: float | None = None
    val_worst_recall: float | None = None
    recall_per_class: dict[str, float | None] = {}  # null: the class has no image in val
    sampling_per_class: dict[str, float] = {}  # the chance that one image of a batch has this class
    unused_ids: tuple[int, ...] = ()  # class ids without a training image
    parameters_multi_branch: int = 0
    head_parameters: int = 0
    head_parameters_without_bottleneck: int = 0
    sites: tuple[SiteDecision, ...] = ()
    weights: WeightsCoverage | None = None
    preprocessing_from: str | None = None  # the file, or the library's weights, that gave the preprocessing
    warnings: tuple[str, ...] = ()  # warnings from before training
