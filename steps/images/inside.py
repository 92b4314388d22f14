"""Which files belong to a data set: those in its folder, and those that DVC replaced by links into its cache."""

import configparser
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


def real_path_inside(root: Path, path: Path) -> Path | None:
    """Return `path` without links; return None if that path lies outside `root` and outside the DVC cache.

    With `cache.type: symlink`, DVC replaces each file in `root` by a link into its cache. Only the cache of the
    project in the working directory counts as inside, and only for a path that lies in `root` as it is written.
    """
    real = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError on a loop of links
    if real.is_relative_to(os.path.realpath(root)):
        return real
    written = Path(os.path.normpath(Path.cwd() / path))
    if not written.is_relative_to(os.path.normpath(Path.cwd() / root)):
        return None
    return real if any(real.is_relative_to(cache) for cache in _real_caches(Path.cwd())) else None


def dvc_caches(project: Path) -> list[Path]:
    """Return each `cache.dir` in .dvc/config and .dvc/config.local of `project`, or DVC's default, .dvc/cache.

    Steps import no DVC, so the two files are read here. The site and global configs of DVC are not read.
    """
    return list(_configured_caches(project / ".dvc")) or [project / ".dvc/cache"]


@lru_cache
def _real_caches(project: Path) -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(cache)) for cache in dvc_caches(project))


def _configured_caches(folder: Path) -> Iterator[Path]:
    for name in ("config", "config.local"):
        config = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=("#",))
        try:
            config.read(folder / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # DVC itself reports the fault
            continue
        written = config.get("cache", "dir", fallback="").strip("\"'")
        if written:
            yield Path(os.path.normpath(folder / Path(written).expanduser()))
