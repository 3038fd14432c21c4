"""What a constant step does at the kink of λ‖β‖₁ (§3)."""
