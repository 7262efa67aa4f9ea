"""The assignment on NumPy networks and ResNet-18; ``solution.py`` is the file that is graded."""
