"""CIFAR-10 classification: what is handed out and what is checked."""
