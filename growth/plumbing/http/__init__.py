"""HTTP: what comes in is bounded, known and limited before a route sees it; what goes out has one form."""
