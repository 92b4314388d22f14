"""champion.json: whether there is an accepted release. The gate compares with it, and split reads its ledger."""

from steps.reports.base import JsonFile


class Champion(JsonFile):
    """data/champion/champion.json. If `accepted`, the folder release/ beside this file is in production."""

    accepted: bool
