"""The console's pages, a module and a Flask blueprint each."""
