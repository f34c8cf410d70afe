"""Results as one self-contained HTML page: what is below a folder, its charts and tables, and the page's template."""
