"""What the demonstration and the end-to-end tests share: running programs, asking a cluster, sending requests."""
