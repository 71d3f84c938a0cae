"""What the network should have answered: which boxes are objects, which are looked at, and their masks."""
