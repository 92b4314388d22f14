"""Figures from scores and labels, and the files of scores. Only numpy and tables enter: no form is run here."""
