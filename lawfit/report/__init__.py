"""Pages: sections, tables and charts in HTML, the same in the report and on the dashboard."""
