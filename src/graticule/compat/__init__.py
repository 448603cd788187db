"""Lets what was written for other services run unchanged."""

from __future__ import annotations

RESULTS_ROLE = "urn:graticule:results:pygeoapi"
"""Role of the entry in a description's ``metadata`` that says: ``"response": "document"`` is answered as pygeoapi does,
``{"outputs": [value]}``. A results document of the standard is then asked for by its profile."""
