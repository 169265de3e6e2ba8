"""The report of a benchmark: rows are audited, summed up in sections of tables and figures, and written as a page."""

from brodmann.bench.reporting.audit import audit
from brodmann.bench.reporting.page import Report, write_report

__all__ = ["Report", "audit", "write_report"]
