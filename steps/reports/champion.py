"""champion.json: whether a release was accepted, and so is the one to beat and the memory of the split."""

from steps.reports.base import JsonFile


class Champion(JsonFile):
    """data/champion/champion.json: the release now in production lies beside it in release/, if `accepted`."""

    accepted: bool
