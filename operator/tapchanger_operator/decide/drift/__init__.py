"""Whether the texts still look like the reference: pure functions of counts."""
