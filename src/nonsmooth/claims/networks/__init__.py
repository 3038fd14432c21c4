"""Networks: depth, VGG16 under an L1 penalty, and what holds in networks that learn (§2, §3, App. A and B)."""
