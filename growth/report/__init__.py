"""Reports for people: what rooms count, in the terminal and as a page to pass on. One module a way of showing it."""
