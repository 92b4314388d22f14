"""data/train/report.json: what was trained and how well it does on val."""

from steps.reports.base import JsonFile, Report


class SiteDecision(JsonFile):
    """What expand did with one convolution, or why it left it alone."""

    site: str
    block: str | None = None
    skipped: str | None = None


class WeightsCoverage(JsonFile):
    """Which of the network's tensors a weights file filled, and which share of its own was of use."""

    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    other_shape: tuple[str, ...] = ()  # or whole numbers where the network has real ones
    interpolated: tuple[str, ...] = ()  # loaded after a change of shape: position embeddings
    coverage: float
    used: float = 1.0
    head_replaced: bool = False  # the last layer kept its fresh weights


class TrainMetrics(JsonFile):
    """metrics.json: the few figures that `dvc metrics show` lists, of the best epoch on val."""

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
    recall_per_class: dict[str, float | None] = {}  # null: no image of it in val
    sampling_per_class: dict[str, float] = {}  # how likely a place in a batch is to hold the class
    unused_ids: tuple[int, ...] = ()  # class ids that no image is trained on
    parameters_multi_branch: int = 0
    head_parameters: int = 0
    head_parameters_without_bottleneck: int = 0
    sites: tuple[SiteDecision, ...] = ()
    weights: WeightsCoverage | None = None
    preprocessing_from: str | None = None  # the file, or the library's weights, whose preprocessing was adopted
    warnings: tuple[str, ...] = ()  # what was said before training, and is worth a second look
