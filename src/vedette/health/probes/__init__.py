"""One kind of dependency a file: each offers `probe`."""
