"""What XLA is slow at on a CPU, behind the plain signature."""
