"""The diagnostics of a profile, one module each."""
