"""Commands that are more than one call: a file each."""
