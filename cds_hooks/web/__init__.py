"""The door: Flask, and only here. It translates HTTP into calls of a service and back, and decides nothing else."""
