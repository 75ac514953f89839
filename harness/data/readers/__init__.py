"""One reader a layout; each turns files into a `Dataset` or says in one line what is wrong with them."""
