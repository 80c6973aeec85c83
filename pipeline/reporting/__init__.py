"""The report: the paper's tables, figures and claims beside what was measured, as page, LaTeX, pictures and data."""
