"""data/split/report.json: how many images each split has, and why."""

from steps.reports.base import Report


class SplitReport(Report):
    """Images per split and class, images that the champion's ledger kept in their split, and special classes."""

    images: dict[str, int] = {}
    per_class: dict[str, dict[str, int]] = {}
    memory: str = ""  # "ledger of <n> keys" or "none: no accepted release yet"
    kept_in_place: int = 0
    train_only: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()  # classes without test images, so that the gate cannot judge them
    off_quota: dict[str, int] = {}  # class -> the largest difference, in images, from the requested share
    ready_made: tuple[str, ...] = ()  # splits that came with the images and were used as they are
    left_out: int = 0  # images that validate dropped
    leaked: int = 0  # images of val and test with their group or content in another split too
    quarantined: tuple[str, ...] = ()  # new images that belong to groups of two different splits
