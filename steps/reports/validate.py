"""data/validate/report.json: which expectation held, and how often each fault was seen."""

from steps.reports.base import JsonFile, Report


class Finding(JsonFile):
    """One expectation: how many images break it, how many may, and the first of them by name."""

    check: str
    key: str  # the key of params.yaml that allows more
    count: int
    allowed: int | None
    examples: tuple[str, ...] = ()
    sentence: str


class ValidateReport(Report):
    """Figures of the data, and one finding for each expectation that was looked at."""

    class_num: int = 0
    images: int = 0
    findings: tuple[Finding, ...] = ()
    images_per_class: dict[str, int] = {}
    imbalance: float | None = None  # largest class over smallest class that has any image
    unused_ids: tuple[int, ...] = ()  # the first 100 of them
    dropped: int = 0  # images that no split will hold
