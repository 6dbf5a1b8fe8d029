"""Gates: each bound of the request against the figure found, with its interval and evidence."""
