"""The objects that ought to exist, as plain manifests. Pure: golden files hold what each function renders."""
