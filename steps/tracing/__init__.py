"""What a network shows of itself when one example goes through it: who reads what, what comes out."""
