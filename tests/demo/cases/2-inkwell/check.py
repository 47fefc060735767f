from inkwell.slugs import slugify, unique_slug

for end in ("", "?", "!", "...", " - ", "?!"):
    for start in ("", "...", "- ", "(("):
        assert slugify(f"{start}Who is it{end}") == "who-is-it", (start, end)
assert slugify("?") == ""
assert slugify("Room 101!") == "room-101"
assert unique_slug("Who?", {"who"}) == "who-2"
