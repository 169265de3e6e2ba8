"""The report of a benchmark: rows are audited, summed up in sections of tables and figures, and written as a page."""

from .audit import audit
from .report import Report, write_report

__all__ = ["Report", "audit", "write_report"]
