"""Evidence of a hijack in a path: returns that no call explains, and the like."""

from barnum.evidence.finder import EvidenceFinder, find_evidence
from barnum.evidence.findings import MOST_FINDINGS, Finding, Findings, Place

__all__ = ["MOST_FINDINGS", "EvidenceFinder", "Finding", "Findings", "Place", "find_evidence"]
