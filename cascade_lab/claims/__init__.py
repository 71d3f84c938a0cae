"""Claims as small programs that can be run again."""
