"""NumPy networks and ResNet-18: the manifest, the cases and the mutants."""
