"""The main job, from nothing to a canary that is rolled back: `make demo`."""
