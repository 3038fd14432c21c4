"""How fast, how far and whether the subgradient method converges (§1, §2, §4)."""
