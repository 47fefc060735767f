"""The demo repositories' own tests belong to them: they run in copies, by `test_demo.py`."""

collect_ignore = ["cases"]
