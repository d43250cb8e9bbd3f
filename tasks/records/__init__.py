"""Records: what lies in the store, as typed rows and files. Nothing else is here."""
