"""The report on evaluated runs: one document, and the page that shows it."""
