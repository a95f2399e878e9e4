"""What runs a command: flags, processes, devices, signals and compiled programs."""
