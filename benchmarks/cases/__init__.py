"""Cases: one module for each benchmark."""
