"""Numbers from scores and labels, and the scores themselves. Numpy and tables only: no form is run here."""
