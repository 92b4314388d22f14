"""data/validate/report.json: which expectations hold, and how many images break each one."""

from steps.reports.base import JsonFile, Report


class Finding(JsonFile):
    """One expectation: how many images break it, how many may, and the first of these images by name."""

    check: str
    key: str  # the key of params.yaml that sets `allowed`
    count: int
    allowed: int | None
    examples: tuple[str, ...] = ()
    sentence: str


class ValidateReport(Report):
    """Figures of the data, and one finding for each checked expectation."""

    class_num: int = 0
    images: int = 0
    findings: tuple[Finding, ...] = ()
    images_per_class: dict[str, int] = {}
    imbalance: float | None = None  # images of the largest class / images of the smallest class with images
    unused_ids: tuple[int, ...] = ()  # the first 100 ids
    dropped: int = 0  # images that split leaves out
