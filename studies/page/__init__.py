"""One static page from run folders: figures, a gallery of questions, claims, tables and where the numbers come from."""
