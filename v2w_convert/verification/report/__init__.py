"""Shows a report: as a page, pictures, JSON and a summary; and suggests fixes."""
