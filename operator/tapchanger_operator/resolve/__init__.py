"""What a spec means: content identities. Pure: the same spec and the same facts give the same names."""
