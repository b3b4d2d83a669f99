"""One file for each command of `revenue-engine`; `serving.cli` is the table of them."""
