"""The models of the benchmark, all behind one interface."""
