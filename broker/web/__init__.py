"""The browser and the HTTP API. Templates and static files lie beside the code."""
