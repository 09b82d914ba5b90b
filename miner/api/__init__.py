"""How other programs and people look at a run: status page, metrics, and the API that farm tools speak."""
