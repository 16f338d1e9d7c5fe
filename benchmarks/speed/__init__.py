"""How fast confide is beside its peers, and how long its own common work takes: ratios within one run."""
