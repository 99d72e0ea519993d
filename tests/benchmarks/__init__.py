"""How fast, beside the raw engine and beside others, in one run: ``make bench``."""
