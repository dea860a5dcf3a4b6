"""Makes the documents of the demo: harmless ones of many kinds, and programs that abuse Ghostscript.

Harmless documents come from real tools (groff, Ghostscript, Poppler, qpdf, enscript), fed with texts that
every Debian machine has, and from PostScript and PDF that this project wrote. Nothing is fetched.
"""
