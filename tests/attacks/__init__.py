"""The attacks and faults that Troop must withstand, by name, against real parts."""
