"""The program that watches decisions and outcomes."""
