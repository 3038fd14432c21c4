"""The report: one HTML page that explains what was measured."""

from nonsmooth.extras import require

require("reproduce", "nonsmooth.report")

from nonsmooth.claims.framework.run_folder import REPORT_FILE
from nonsmooth.report.page import render
from nonsmooth.report.writing import write_report

__all__ = ["REPORT_FILE", "render", "write_report"]
