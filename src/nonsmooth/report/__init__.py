"""The report: one HTML page that explains what was measured."""

from nonsmooth.extras import require

require("reproduce", "nonsmooth.report")

from nonsmooth.report.page import render
from nonsmooth.report.writing import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "render", "write_report"]
