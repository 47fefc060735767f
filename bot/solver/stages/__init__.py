"""The stages of a run, one file each. They exchange records and import no other stage; one file knows the order."""
