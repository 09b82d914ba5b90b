"""Compiled loops over whole blocks. Import them only where the compiler may be waited for (see `chain.native`)."""
