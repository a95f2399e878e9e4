"""Makes the shipped models of trainings."""
