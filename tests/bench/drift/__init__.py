"""How soon drift is noticed in real texts, beside three libraries that do so: `make bench-drift`."""
