"""Run a program on inputs and write sample folders."""
